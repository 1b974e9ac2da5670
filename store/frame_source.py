"""A video whose features are read a piece at a time, whether they are stored or made meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r2t.store.schema import VideoFeatures

if TYPE_CHECKING:
    from r2t.store.feature_store import FeatureStore

OnFrames = Callable[[int, int], None]
"""Called with how many frames of how many are there so far."""


@dataclass(frozen=True, eq=False)
class FrameSource:
    """A video whose features can be read a piece at a time.

    `read` returns the features of consecutive frames; it is called with slices whose starts ascend,
    so that a decoder can serve it in one pass.
    """

    video_id: str
    num_frames: int
    duration_seconds: float
    frame_rate_fps: float
    read: Callable[[slice], VideoFeatures]


def stored_video(store: FeatureStore, video_id: str) -> FrameSource:
    """Return a video of a store as a source; the store reads only the frames asked for."""
    row = store.index_row(video_id)
    return FrameSource(
        video_id,
        row["num_frames"],
        row["duration_seconds"],
        row["frame_rate_fps"],
        lambda frames: store.read_video(video_id, frames=frames),
    )
