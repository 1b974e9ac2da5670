"""What commands must not load before they work: each of these costs tenths of a CPU second."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from barcode_videos import Recipe, write_video
from demo_run import make_demo_run

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


def loaded_by(*arguments: str, cwd: Path, status: int) -> set[str]:
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([*arguments, "--device", "cpu"])],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )
    assert finished.returncode == status, finished.stderr
    return set(json.loads(finished.stdout.splitlines()[-1]))


def test_predict_needs_no_store_and_no_pictures(folder: Path) -> None:
    loaded = loaded_by("predict", "dog.mp4", "a ball", "--checkpoint", "run", cwd=folder, status=0)
    banned = NEVER | {"pandas", "zarr", "r2t.store.feature_store", "r2t.train.data.reader"}
    assert loaded & banned == set()


def test_search_needs_no_videos(folder: Path) -> None:
    options = ("--checkpoint", "run", "--store", "own.zarr")
    loaded = loaded_by("search", "a ball", *options, cwd=folder, status=2)  # the store is empty
    assert loaded & (NEVER | {"pandas", "av", "decord", "r2t.extract.video.decode_pool"}) == set()


def test_eval_needs_no_compiler_and_no_clip(folder: Path) -> None:
    options = ("--checkpoint", "run", "--store", "own.zarr", "--split", "test")
    loaded = loaded_by("eval", *options, cwd=folder, status=2)  # the store is empty
    assert loaded & (NEVER | {"torch._dynamo", "open_clip", "av", "decord"}) == set()
