"""How work says how far it is: how much is done, of how much."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[float, float], None]
"""Called now and then with how much is done, and how much there is in all."""


def no_progress(done: float, total: float) -> None:
    """Take progress that nobody asked for."""
