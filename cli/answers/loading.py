"""What answers questions about videos, loaded in one way for every command."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import r2t.extract.video
import r2t.train
from r2t.cli.shared import note
from r2t.extract.video import DEFAULT_MAX_HOURS


@contextmanager
def started_pool(max_hours: float = DEFAULT_MAX_HOURS) -> Generator[r2t.extract.video.DecodePool]:
    """Start a process to decode untrusted videos; it gets ready while CLIP is loaded."""
    with r2t.extract.video.DecodePool(max_hours=max_hours) as pool:
        pool.start()
        yield pool


def pick_frame_rate(grounder: r2t.train.Grounder, fps: float | None) -> float:
    """Return the rate to sample at, and note it where the model was trained at another."""
    rate = grounder.frame_rate(fps)
    if rate != grounder.spec.frame_rate:
        note(f"note: the model was trained on frames at {grounder.spec.frame_rate} fps")
    return rate
