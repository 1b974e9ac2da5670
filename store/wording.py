"""How messages spell out counts, names and what to install."""

from __future__ import annotations

from collections.abc import Iterable


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: 1 video, 2 videos, 0 queries."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{number:,} {noun[:-1]}ies"
    return f"{number:,} {noun}{'es' if noun.endswith('s') else 's'}"


def counted_of(number: int, total: int, noun: str) -> str:
    """Return a share with its noun: 1 of 1 video, 1 of 3 videos."""
    return f"{number:,} of {counted(total, noun)}"


FEW_NAMES = 5
"""How many ids a table or a message spells out beside others."""


def named(names: Iterable[str], most: int = 20) -> str:
    """Spell out names, or the first of many."""
    listed = list(names)
    rest = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {rest} more" if rest > 0 else "")


def how_to_install(extra: str) -> str:
    """Say how an optional part is installed: from the checkout, since no package index has it."""
    return f"pip install '.[{extra}]' in the folder that r2t was installed from"
