"""Which values are legal: numbers of foreign metadata, and embeddings."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2t.store.errors import ConfigError

MAX_COUNT = 2**31 - 1
"""The most of anything that can be counted, such as frames of a video."""

UNIT_TOLERANCE = 1e-3
"""By how much the length of a stored embedding may differ from 1."""

_LARGEST = sys.float_info.max


def is_count(value: Any) -> bool:
    """Whether a value, of foreign metadata for one, is a whole number from 0 to `MAX_COUNT`."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT


def is_finite(value: Any) -> bool:
    """Whether a value, of foreign metadata for one, is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -_LARGEST <= value <= _LARGEST  # isfinite raises on an integer beyond that


def is_positive(value: Any) -> bool:
    """Whether a value is a number above 0 that a float can hold."""
    return is_finite(value) and value > 0


def require_embedding(values: NDArray[Any], shape: tuple[int, ...], label: str) -> None:
    """Raise `ConfigError` unless values are a float16 embedding of `shape`, each of unit length.

    Rounding to float16 changes a length by less than `UNIT_TOLERANCE`.
    """
    if values.dtype != np.dtype("<f2") or values.shape != shape:
        raise ConfigError(
            f"{label}: the embedding is {values.dtype}{list(values.shape)}, "
            f"expected float16{list(shape)}"
        )
    exact = values.astype(np.float32)
    lengths = np.sqrt(np.einsum("...c,...c->...", exact, exact))
    if not (np.abs(lengths - 1) <= UNIT_TOLERANCE).all():
        raise ConfigError(
            f"{label}: embeddings must have length 1, these have {np.min(lengths):.4g} to "
            f"{np.max(lengths):.4g}"
        )
