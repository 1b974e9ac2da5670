"""Curves with more points than what they are drawn on can show."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64


def highest_of_parts(scores: Float[np.ndarray, " scores"], most: int) -> Float64[np.ndarray, " _"]:
    """Return scores, or where they are more than `most`, the highest of as many equal parts."""
    parts = np.array_split(scores.astype(np.float64), min(most, len(scores)))
    return np.array([part.max() for part in parts])
