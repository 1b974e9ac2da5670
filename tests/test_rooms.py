"""A folder is a room: others import what its `__init__` offers, and never from behind it."""

from __future__ import annotations

import ast
import importlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from r2t.store.lazy import offered_names

ROOT = Path(__file__).parent.parent
PARTS = ("extract", "store", "train", "cli")
MODULES = {
    "r2t." + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for part in PARTS
    for path in sorted((ROOT / part).rglob("*.py"))
}
DOORS = [name for name, path in MODULES.items() if path.name == "__init__.py"]
ROOMS = [name for name in DOORS if name.count(".") > 1]
# Each is looked up by this name in its own module: by typer, by `python -m`, by readers of logs.
SAME_IN_MANY_MODULES = {"app", "main", "logger"}


def _imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the module and the name of each import of ours, wherever in the file it is."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("r2t."):
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((each.name, "") for each in node.names if each.name.startswith("r2t."))


def _room(module: str) -> str | None:
    """Return the innermost room that a module lies in."""
    inside = [room for room in ROOMS if module.startswith(f"{room}.")]
    return max(inside, key=len, default=None)


@pytest.mark.parametrize("name", ROOMS)
def test_others_come_in_by_the_door(name: str) -> None:
    past = {
        (importer, module, imported)
        for importer, path in MODULES.items()
        if not f"{importer}.".startswith(f"{name}.")
        for module, imported in _imports(path)
        if name in (module, _room(module))
        if module != name or f"{name}.{imported}" in MODULES
        if not name.startswith("r2t.cli.commands")  # loaded by name, one command a module
    }
    assert past == set()


def _defined(path: Path) -> Iterator[str]:
    """Yield the public functions, classes and constants of a module."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [
                each.id
                for target in targets
                for each in ast.walk(target)
                if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
            ]
        else:
            continue
        yield from (name for name in names if not name.startswith("_"))


def test_a_public_name_is_defined_in_one_module_only() -> None:
    defined: dict[str, set[str]] = defaultdict(set)
    for module, path in MODULES.items():
        for name in _defined(path):
            defined[name].add(module)
    assert defined["FeatureStore"] == {"r2t.store.feature_store"}
    shared = {name: modules for name, modules in defined.items() if len(modules) > 1}
    assert shared.keys() == SAME_IN_MANY_MODULES, shared


@pytest.mark.parametrize("name", DOORS)
def test_a_door_has_a_sentence_and_what_it_offers(name: str) -> None:
    door = importlib.import_module(name)
    assert door.__doc__
    assert door.__doc__.splitlines()[0].endswith(".")
    offered = offered_names(MODULES[name].read_text(encoding="utf-8"))
    for each, module in offered.items():
        assert getattr(door, each) is getattr(importlib.import_module(module), each)
        assert f"{name}.{each}" not in MODULES  # whichever of the two was loaded last would win
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        _ = door.absent
