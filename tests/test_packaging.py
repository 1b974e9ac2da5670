"""The package that is tested is this checkout, and the wheel would hold all of it."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PARTS = ("extract", "store", "train", "cli")


@pytest.mark.parametrize("part", PARTS)
def test_part_comes_from_this_checkout(part: str) -> None:
    module = importlib.import_module(f"r2t.{part}")
    assert module.__file__ is not None
    assert Path(module.__file__).resolve().parent == ROOT / part


def test_the_wheel_holds_the_tree(tmp_path: Path) -> None:
    for each in (*PARTS, "setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        (tmp_path / each).symlink_to(ROOT / each)
    build = "import setuptools.build_meta as backend; print(backend.build_wheel('built'))"
    finished = subprocess.run(
        [sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    (wheel,) = (tmp_path / "built").iterdir()
    packed = {name for name in ZipFile(wheel).namelist() if name.startswith("r2t/")}
    tree = {
        f"r2t/{path.relative_to(ROOT).as_posix()}"
        for part in PARTS
        for path in (ROOT / part).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == tree


def test_what_is_imported_with_a_module_needs_no_extra() -> None:
    """Lint takes an extra for declared; a plain install lacks it, and must import all the same."""
    modules = packages_distributions()
    needed = {
        canonicalize_name(requirement.name)
        for requirement in map(Requirement, requires("r2-tuning") or [])
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    }
    found: dict[str, set[str]] = {}
    for path in (each for part in PARTS for each in (ROOT / part).rglob("*.py")):
        for name in _imported_with(ast.parse(path.read_text()).body):
            owners = {canonicalize_name(owner) for owner in modules.get(name, [])}
            if owners and not owners & {*needed, "r2-tuning"}:
                found.setdefault(str(path.relative_to(ROOT)), set()).add(name)
    assert found == {  # loaded by `r2t serve` and by `to_xarray` alone
        "cli/pages/serve.py": {"gradio"},
        "cli/pages/server.py": {"gradio", "starlette"},
        "store/xarray_view.py": {"xarray"},
    }


def test_the_tested_versions_are_allowed_and_complete() -> None:
    """A constraints file that holds less, or other versions, would be of no use."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pairs}
    for requirement in map(Requirement, requires("r2-tuning") or []):
        name = canonicalize_name(requirement.name)
        if name != "r2-tuning":
            assert requirement.specifier.contains(pins[name], prereleases=True), requirement


def _imported_with(body: list[ast.stmt]) -> Iterator[str]:
    """Yield the first names of the modules that statements import when they are run."""
    for statement in body:
        if isinstance(statement, ast.Import):
            yield from (alias.name.split(".")[0] for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            yield (statement.module or "").split(".")[0]
        elif isinstance(statement, ast.If | ast.Try | ast.With | ast.ClassDef):
            if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
                continue
            yield from _imported_with([*statement.body, *getattr(statement, "orelse", [])])


@pytest.mark.parametrize(
    ("statement", "banned"),
    [
        ("import r2t.cli.main", "torch"),
        ("import r2t.cli.main", "zarr"),
        ("import r2t.cli.main", "pandas"),
        ("import r2t.cli.main", "matplotlib"),
        ("import r2t.train.grounding.grounder, r2t.train.grounding.presence", "zarr"),
        ("import r2t.train.grounding.grounder, r2t.train.grounding.presence", "pandas"),
        ("import r2t.extract.video.frames", "torch"),
    ],
)
def test_import_stays_light(statement: str, banned: str) -> None:
    """What starts often loads only what it needs; `make layers` holds what may import what."""
    program = f"import sys\n{statement}\nassert {banned!r} not in sys.modules"
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr


def test_training_works_where_clip_cannot_be_imported(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "sys.modules['open_clip'] = None  # any import of it now raises\n"
        "sys.modules['r2t.extract'] = None\n"
        f"sys.path += [{str(ROOT / 'tests')!r}, {str(ROOT / 'benchmarks')!r}]\n"
        "from toy_store import make_store\n"
        "from pathlib import Path\n"
        "from r2t.train.training.fit import split_annotations, train_model\n"
        "from tiny_config import tiny_config\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "store = make_store(folder / 'feats.zarr')\n"
        "train_model(tiny_config(store), store, split_annotations(store), folder / 'run')\n"
        "assert (folder / 'run' / 'best.safetensors').exists()\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
