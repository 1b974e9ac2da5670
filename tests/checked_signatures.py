"""The types and shapes in signatures, checked at every call while the tests run.

jaxtyping's import hook decorates every function. Its wrapper knows the axes of a call by name, and
takes many times as long as beartype's own check, so only signatures with shapes get it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

_check_types = beartype(conf=BeartypeConf(is_pep484_tower=True))
_check_shapes = functools.partial(jaxtyping.jaxtyped, typechecker=_check_types)


def check_signatures(*packages: str) -> None:
    """Check the signatures of all modules of these packages that are imported from now on."""
    jaxtyping.install_import_hook(packages, "beartype.beartype")
    jaxtyping.jaxtyped = _choose  # what the decorators that the hook puts in ask for


def _choose(**_: Any) -> Callable[[Any], Any]:
    return _check


def _check(checked: Any) -> Any:
    """Decorate a function, or the `__init__` of a dataclass."""
    if not inspect.isclass(checked):
        return (_check_shapes if _speaks_of_shapes(checked) else _check_types)(checked)
    if "__dataclass_params__" in vars(checked):
        checked.__init__ = _check(checked.__init__)
    return checked


def _speaks_of_shapes(function: Callable[..., Any]) -> bool:
    try:
        return "jaxtyping" in repr(inspect.get_annotations(function, eval_str=True))
    except NameError:  # it is defined later or for type checkers alone, which jaxtyping lets pass
        return True
