"""Names of rows that the extrapolation reads again, without what takes seconds to import."""

from __future__ import annotations

COMPILED = "whole, compiled"
PINNED = "pinned host to device"
LOOP = "r2t train's loop"


def step_name(look: str, precision: str, batch_size: int) -> str:
    """Return the name of a training step's row."""
    return f"{look}, {precision}, batch {batch_size}"


def way_name(cache: str | None, dtype: str, sampling: str) -> str:
    """Return the beginning of the names of the rows of a way to read."""
    return f"{f'cache in {cache}' if cache else 'no cache'}, {dtype}, {sampling}"
