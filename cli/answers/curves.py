"""Curves with more points than what they are drawn on can show."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64


def highest_of_parts(scores: Float[np.ndarray, " scores"], most: int) -> Float64[np.ndarray, " _"]:
    """Return scores, or where they are more than `most`, the highest of as many equal parts.

    Parts may differ by one score. Longer ones are spread over the whole, so that each part stays
    where it is in time.
    """
    num_parts = min(most, len(scores))
    starts = np.arange(num_parts) * len(scores) // num_parts
    return np.maximum.reduceat(scores.astype(np.float64), starts)
