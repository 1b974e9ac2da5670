"""Whether this machine decodes videos: a film whose every picture is known, decoded as any other.

The film is the first of the demo world's test split, so that nothing has to be shipped or fetched.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np

from r2t.extract.demo import SIDE, VIDEO_FRAME_RATE_FPS, Painter, make_story, write_video
from r2t.extract.video import DecodePool, DecoderChoice
from r2t.store.errors import VideoError

MAX_MEAN_ERROR = 8.0  # of 255; H.264 and its half-size colours cost about 2
_TIMEOUT_SECONDS = 30.0
_RATE_FPS = 1


def check_decoder(decoder: DecoderChoice) -> str:
    """Decode a generated film in a worker; return the decoder's name and version.

    Raises `VideoError` where it crashes, hangs or returns other pictures than were painted, and
    `ConfigError` where it is not installed.
    """
    scene = make_story("test", 0, 0).scene
    paint = Painter(scene)
    with tempfile.TemporaryDirectory(prefix="r2t-selftest-") as folder:
        path = Path(folder) / "film.mp4"
        write_video(path, scene)
        with DecodePool(size=SIDE, decoder=decoder, timeout_seconds=_TIMEOUT_SECONDS) as pool:
            batches = list(pool.stream(path, _RATE_FPS))
    pixels = np.concatenate([batch.pixels for batch in batches])
    if len(pixels) != scene.duration_seconds * _RATE_FPS:
        raise VideoError(
            f"{decoder}: {len(pixels)} frames of {scene.duration_seconds} were decoded"
        )
    for slot, picture in enumerate(pixels):
        source = math.ceil((slot + 0.5) / _RATE_FPS * VIDEO_FRAME_RATE_FPS) - 1
        painted = paint(source / VIDEO_FRAME_RATE_FPS).transpose(2, 0, 1)
        error = float(np.abs(picture.astype(np.float64) - painted).mean())
        if error > MAX_MEAN_ERROR:
            raise VideoError(
                f"{decoder}: frame {slot} is {error:.1f} of 255 away from what was drawn"
            )
    return batches[0].decoder
