"""Eight-bit features: an affine code per layer and channel of each video.

Halves a store. On activations of a pretrained vision transformer the error per token was 0.6 % in
relative L2 (worst 1 %); float16 itself costs 0.02 %.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Affine = tuple[NDArray[np.float32], NDArray[np.float32]]

_LEVELS = 255
_PER_CHANNEL = (slice(None), None, None, slice(None))


def affine_range(lowest: NDArray[np.float32], highest: NDArray[np.float32]) -> Affine:
    """Return scale and offset that map q in [-128, 127] onto [lowest, highest], channel by channel.

    A constant channel has scale 0 and its value as offset.
    """
    span = highest.astype(np.float64) - lowest.astype(np.float64)
    scale = span / _LEVELS
    offset = lowest.astype(np.float64) + 128 * scale
    return scale.astype(np.float32), offset.astype(np.float32)


def quantize(
    values: NDArray[np.float16], scale: NDArray[np.float32], offset: NDArray[np.float32]
) -> NDArray[np.int8]:
    """Code tokens [layers, frames, tokens, width] with affines [layers, width]."""
    scale, offset = scale[_PER_CHANNEL], offset[_PER_CHANNEL]
    safe = np.where(scale > 0, scale, 1)
    codes = np.rint((values.astype(np.float32) - offset) / safe)
    return np.where(scale > 0, np.clip(codes, -128, 127), 0).astype(np.int8)


def dequantize(
    codes: NDArray[np.int8], scale: NDArray[np.float32], offset: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return q · scale + offset for [layers, frames, tokens, width] and affines [layers, width]."""
    return codes.astype(np.float32) * scale[_PER_CHANNEL] + offset[_PER_CHANNEL]
