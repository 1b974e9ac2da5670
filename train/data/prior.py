"""The prior: what the frozen CLIP itself makes of a frame and a sentence, as two numbers a frame.

R²-Tuning reads hidden states from before CLIP's projections, so it cannot see how well CLIP finds
that they fit. The cosine of CLIP's own embeddings says it: as it is, which can be compared between
videos, and standardised over the frames of its video, which says where in the video it is highest.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float16, Float32
from numpy.typing import NDArray

NUM_PRIORS = 2
_SCALE = 10.0  # cosines of CLIP lie within a few tenths
_LEAST_STD = 1e-5  # what rounding to float16 does to a cosine
_LEAST_LENGTH = 1e-6


def prior_features(
    embedding: Float16[np.ndarray, "frames width"], sentence: Float16[np.ndarray, " width"]
) -> Float32[np.ndarray, "frames priors"]:
    """Return ten times the cosine of each frame with a sentence, and the cosine standardised.

    `embedding` must be that of all frames of a video: mean and deviation are theirs, so whoever
    needs some of the frames cuts the result. Where the cosines are all alike the second number is
    0.
    """
    frames, words = _unit(embedding), _unit(sentence[None])
    # Not by BLAS, whose threads would call for all cores from each of those that read ahead.
    cosines = np.einsum("fw,w->f", frames, words[0]).astype(np.float64)
    centred, std = cosines - cosines.mean(), cosines.std()
    standardised = centred / std if std > _LEAST_STD else np.zeros_like(centred)
    return np.stack([_SCALE * cosines, standardised], axis=1).astype(np.float32)


def _unit(rows: NDArray[np.float16]) -> NDArray[np.float32]:
    """Make rows as long as they are meant to be: rounding to float16 has changed that."""
    exact = rows.astype(np.float32)
    lengths = np.sqrt(np.einsum("rw,rw->r", exact, exact))
    return exact / np.maximum(lengths, _LEAST_LENGTH)[:, None]
