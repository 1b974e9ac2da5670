"""The package that is tested is this checkout, and the wheel would hold all of it."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("extract", "store", "train", "cli")


@pytest.mark.parametrize("part", PARTS)
def test_part_comes_from_this_checkout(part: str) -> None:
    module = importlib.import_module(f"r2t.{part}")
    assert module.__file__ is not None
    assert Path(module.__file__).resolve().parent == ROOT / part


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        "r2t." + ".".join(path.parent.relative_to(ROOT).parts)
        for part in PARTS
        for path in (ROOT / part).rglob("__init__.py")
    }
    assert set(listed) == found


@pytest.mark.parametrize(
    ("statement", "banned"),
    [
        ("import r2t.store", "torch"),
        ("import r2t.train.fit, r2t.train.grounder, r2t.train.reader", "open_clip"),
        ("import r2t.cli.main", "torch"),
        ("import r2t.cli.main", "zarr"),
        ("import r2t.cli.main", "pandas"),
        ("import r2t.extract.frames", "torch"),
    ],
)
def test_import_stays_light(statement: str, banned: str) -> None:
    """Training must never load CLIP, the store no torch, and the command line only what helps."""
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
        f"sys.path.insert(0, {str(ROOT / 'tests')!r})\n"
        "from tiny_store import make_store\n"
        "from pathlib import Path\n"
        "from r2t.train.fit import fit, split_annotations\n"
        "from tiny_store import tiny_config\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "store = make_store(folder / 'feats.zarr')\n"
        "fit(tiny_config(store), store, split_annotations(store), folder / 'run')\n"
        "assert (folder / 'run' / 'best.safetensors').exists()\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
