"""A video file as a source of features: decoded and encoded in one pass, as they are read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from r2t.cli.plots import minutes
from r2t.cli.ui import note, progress_bar
from r2t.store.schema import VideoFeatures
from r2t.train.decode import Grounding
from r2t.train.windows import FrameSource, WindowPlan, ground_source

if TYPE_CHECKING:
    from r2t.extract.clip import FrozenClip
    from r2t.extract.frames import FrameBatch
    from r2t.store.schema import QueryFeatures
    from r2t.train.grounder import Grounder


def open_video(
    clip: FrozenClip,
    path: Path,
    frame_rate_fps: float,
    *,
    on_frames: Callable[[int], None] = lambda done: None,
) -> FrameSource:
    """Open a video file; `on_frames` hears how many frames are encoded so far.

    Holds the features between the start of the last slice read and the last frame decoded.
    """
    from r2t.extract.frames import stream_frames

    batches = stream_frames(path, frame_rate_fps, size=clip.image_size, window=clip.batch_size)
    first = next(batches)
    passed = _OnePass(clip, path.stem, frame_rate_fps, chain([first], batches), on_frames)
    return FrameSource(
        path.stem, first.num_video_frames, first.duration_seconds, frame_rate_fps, passed.read
    )


class _OnePass:
    def __init__(
        self,
        clip: FrozenClip,
        video_id: str,
        frame_rate_fps: float,
        batches: Iterator[FrameBatch],
        on_frames: Callable[[int], None],
    ) -> None:
        self._clip = clip
        self._video_id = video_id
        self._frame_rate_fps = frame_rate_fps
        self._batches = batches
        self._on_frames = on_frames
        self._held: deque[NDArray[np.float16]] = deque()
        self._first = 0  # the first frame held
        self._end = 0  # the first frame not yet decoded
        self._duration_seconds = 0.0

    def read(self, frames: slice) -> VideoFeatures:
        """Return frames that start no earlier than those of the last call."""
        while self._end < frames.stop:
            self._take(next(self._batches))
            while self._held and self._first + self._held[0].shape[1] <= frames.start:
                self._first += self._held.popleft().shape[1]
        tokens = np.concatenate(list(self._held), axis=1)
        tokens = tokens[:, frames.start - self._first : frames.stop - self._first]
        return VideoFeatures(self._video_id, tokens, self._duration_seconds, self._frame_rate_fps)

    def _take(self, batch: FrameBatch) -> None:
        self._held.append(self._clip.encode_frames(batch.pixels))
        self._end += len(batch)
        self._duration_seconds = batch.duration_seconds
        self._on_frames(self._end)


def ground_file(
    grounder: Grounder, clip: FrozenClip, path: Path, query: QueryFeatures, frame_rate_fps: float
) -> tuple[Grounding, int]:
    """Find a query in a video file of any length, behind a progress bar.

    Also returns in how many windows it was asked; more than one are noted.
    """
    from r2t.extract.probe import exact_rate, probe

    num_frames = probe(path).num_slots(exact_rate(frame_rate_fps))
    plan = WindowPlan.of_run(grounder.trained_on)
    num_windows = len(plan.windows(num_frames))
    if num_windows > 1:
        length, limit = (
            minutes(frames / frame_rate_fps) for frames in (plan.num_frames, plan.limit_frames)
        )
        note(
            f"note: {path.name} is longer than {limit}, so it is asked in {num_windows} "
            f"overlapping windows of {length} and their answers are merged"
        )
    with progress_bar("frames", num_frames) as show_done:
        source = open_video(clip, path, frame_rate_fps, on_frames=show_done)
        (grounding,) = ground_source(grounder, source, [query], plan=plan)
    return grounding, num_windows
