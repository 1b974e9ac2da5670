"""A video file as a source of features: decoded and encoded in one pass, as they are read.

Pictures come from a `DecodePool`, so a file that crashes its decoder is a `VideoError`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from r2t.extract.clip.embedding import EncodedFrames
from r2t.extract.video import DecodePool, FrameBatch
from r2t.store.features import FrameSource, VideoFeatures
from r2t.store.json_lines import as_utf8
from r2t.store.progress import OnProgress

Encode = Callable[[UInt8[np.ndarray, "frames 3 rows columns"]], EncodedFrames]


@contextmanager
def open_one_pass(
    path: Path,
    frame_rate_fps: float,
    *,
    pool: DecodePool,
    image_size: int,
    encode: Encode,
    on_frames: OnProgress,
) -> Generator[FrameSource]:
    """Open a video file; its id is its stem (bytes that are not UTF-8 as escapes).

    Leaving the context stops its decoder. Holds the features between the start of the last slice
    read and the last frame decoded.
    """
    with closing(pool.stream(path, frame_rate_fps, size=image_size)) as batches:
        first = next(batches)
        name = as_utf8(path.stem)
        passed = _OnePass(name, frame_rate_fps, encode, chain([first], batches), on_frames)
        yield FrameSource(
            name, first.num_video_frames, first.duration_seconds, frame_rate_fps, passed.read
        )


class _OnePass:
    def __init__(
        self,
        video_id: str,
        frame_rate_fps: float,
        encode: Encode,
        batches: Iterator[FrameBatch],
        on_frames: OnProgress,
    ) -> None:
        self._video_id = video_id
        self._frame_rate_fps = frame_rate_fps
        self._encode = encode
        self._batches = batches
        self._on_frames = on_frames
        self._held: deque[EncodedFrames] = deque()
        self._first = 0  # the first frame held
        self._end = 0  # the first frame not yet decoded
        self._duration_seconds = 0.0

    def read(self, frames: slice) -> VideoFeatures:
        """Return frames that start no earlier than those of the last call."""
        while self._end < frames.stop:
            self._take(next(self._batches))
            while self._held and self._first + self._held[0].num_frames <= frames.start:
                self._first += self._held.popleft().num_frames
        held = EncodedFrames.joined(list(self._held))
        found = held[frames.start - self._first : frames.stop - self._first]
        return VideoFeatures(
            self._video_id,
            found.tokens,
            self._duration_seconds,
            self._frame_rate_fps,
            embedding=found.embedding,
            embedding_from="" if found.embedding is None else "frames",
        )

    def _take(self, batch: FrameBatch) -> None:
        self._held.append(self._encode(batch.pixels))
        self._end += len(batch)
        self._duration_seconds = batch.duration_seconds
        self._on_frames(self._end, batch.num_video_frames)
