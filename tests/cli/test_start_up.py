"""What commands must not load before they work: each of these costs tenths of a CPU second."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from barcode_videos import Recipe, write_video
from demo_run import make_demo_run

import r2t.cli
from r2t.extract.clip.clip import FrozenClip
from r2t.store import FeatureStore

PROGRAM = """
import json, sys
from r2t.cli.main import app
sys.argv = ["r2t", *json.loads(sys.argv[1])]
try:
    app()
finally:
    print(json.dumps(sorted(sys.modules)))
"""
EVERY_HELP = """
import sys
from typer.main import get_command
from r2t.cli.main import app
def explain(command):
    command.get_help(command.make_context("r2t", [], resilient_parsing=True))
    for inner in getattr(command, "commands", {}).values():
        explain(inner.load())
explain(get_command(app))
print(*sys.modules)
"""
NEVER = {"dask", "h5py", "matplotlib", "sklearn", "tensorboard"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold a run, a store of its features, and a video."""
    folder = tmp_path_factory.mktemp("start")
    clip = FrozenClip.load("r2t-demo", layers=2, device="cpu")
    make_demo_run(folder, clip.spec(4.0))
    FeatureStore.create(folder / "own.zarr", clip.spec(4.0), clip.provenance())
    write_video(folder / "dog", Recipe())
    return folder


def test_to_list_commands_none_is_imported() -> None:
    loaded = loaded_by("--help", status=0)
    assert "r2t.cli.shared.apps" in loaded
    assert not {name for name in loaded if name.startswith("r2t.cli.commands")}
    assert loaded & {"numpy", "rich", "torch", "pandas"} == set()


def test_no_help_loads_what_only_the_work_needs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EVERY_HELP], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "r2t.cli.commands.store.verify" in loaded
    assert loaded & (NEVER | {"av", "decord", "open_clip", "pandas", "torch", "zarr"}) == set()


def test_the_command_line_imports_at_the_heads_of_its_files() -> None:
    found = {
        (path.name, ast.unparse(statement))
        for path in Path(r2t.cli.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) or (isinstance(node, ast.If) and not is_door(path))
        for statement in ast.walk(node)
        if isinstance(statement, ast.Import | ast.ImportFrom)
    }
    assert found == {("doctor.py", "import torch")}  # no door of ours leads to torch


def is_door(path: Path) -> bool:
    """Whether a file offers the names of its folder, which it imports for type checkers alone."""
    return path.name == "__init__.py"


def loaded_by(*arguments: str, status: int, cwd: Path | None = None) -> set[str]:
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )
    assert finished.returncode == status, finished.stderr
    return set(json.loads(finished.stdout.splitlines()[-1]))


def test_predict_needs_no_store_and_no_pictures(folder: Path) -> None:
    options = ("--checkpoint", "run", "--device", "cpu")
    loaded = loaded_by("predict", "dog.mp4", "a ball", *options, status=0, cwd=folder)
    banned = NEVER | {"pandas", "zarr", "r2t.store.feature_store", "r2t.train.data.reader"}
    assert loaded & banned == set()


def test_search_needs_no_videos(folder: Path) -> None:
    options = ("--checkpoint", "run", "--store", "own.zarr", "--device", "cpu")
    loaded = loaded_by("search", "a ball", *options, cwd=folder, status=2)  # the store is empty
    assert loaded & (NEVER | {"pandas", "av", "decord", "r2t.extract.video.decode_pool"}) == set()


def test_eval_needs_no_compiler_and_no_clip(folder: Path) -> None:
    options = ("--checkpoint", "run", "--store", "own.zarr", "--split", "test", "--device", "cpu")
    loaded = loaded_by("eval", *options, cwd=folder, status=2)  # the store is empty
    assert loaded & (NEVER | {"torch._dynamo", "open_clip", "av", "decord"}) == set()
