"""A strip of pictures of a video: what plots draw and pages show of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import r2t.extract.video

NUM_STRIP_FRAMES = 10
STRIP_PIXELS = 160


@dataclass(frozen=True, eq=False)
class FrameStrip:
    """Pictures uint8 [frames, height, width, 3], evenly spaced over the whole video."""

    pictures: NDArray[np.uint8]


def draw_frame_strip(
    pool: r2t.extract.video.DecodePool, video: Path, duration_seconds: float
) -> FrameStrip:
    """Decode a few pictures, evenly spaced over a video."""
    batches = pool.stream(video, NUM_STRIP_FRAMES / duration_seconds, size=STRIP_PIXELS)
    pixels = np.concatenate([batch.pixels for batch in batches])
    return FrameStrip(pixels.transpose(0, 2, 3, 1))
