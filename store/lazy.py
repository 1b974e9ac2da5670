"""Names that a package offers from its modules, each loaded when it is first used.

A package's `__init__` imports them under `TYPE_CHECKING`, where editors and type checkers look, and
takes its `__getattr__` from here: one name costs what its own module costs, and no package imports
another in a circle.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy_exports(package: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package that offers what its `__init__` imports for types."""
    module = sys.modules[package]

    @cache
    def origins() -> dict[str, str]:
        assert module.__file__ is not None
        return offered_names(Path(module.__file__).read_text(encoding="utf-8"))

    def load(name: str) -> Any:
        if name.startswith("__") or name not in origins():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(origins()[name]), name)

    return load


def offered_names(source: str) -> dict[str, str]:
    """Return which module each name comes from that an `__init__` imports under `TYPE_CHECKING`."""
    return {
        alias.name: statement.module
        for block in ast.parse(source).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom) and statement.module
        for alias in statement.names
    }
