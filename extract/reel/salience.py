"""The most salient segments of a video for a sentence."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from r2t.extract.reel.looks import window_means
from r2t.extract.reel.segments import ReelPlan, Segment


def salient_segments(
    saliency: Float[np.ndarray, " frames"],
    frame_rate_fps: float,
    duration_seconds: float,
    length_seconds: float,
) -> list[Segment]:
    """Return the segments of the highest mean saliency, in time order, as long as asked for.

    A segment's weight is the mean saliency of its frames. Those that touch are one.

    Raises:
        ConfigError: as `ReelPlan` does.
    """
    plan = ReelPlan(duration_seconds, length_seconds)
    scores = saliency.astype(np.float32)[:, None]
    means = window_means(scores, plan.segment_frames(len(scores), frame_rate_fps))[:, 0]
    starts = plan.starts(len(means), frame_rate_fps)
    taken = plan.choose(starts, lambda _: means.astype(np.float64))
    return [
        Segment(*span, mean_saliency(saliency, frame_rate_fps, span))
        for span in plan.fill(starts[taken], np.zeros(0))
    ]


def mean_saliency(
    saliency: Float[np.ndarray, " frames"], frame_rate_fps: float, span: tuple[float, float]
) -> float:
    """Return the mean over a span of seconds; each frame's score holds for its slot."""
    starts = np.arange(len(saliency)) / frame_rate_fps
    ends = np.append(starts[1:], np.inf)  # the last frame stands for the rest of the video
    seconds = np.minimum(ends, span[1]) - np.maximum(starts, span[0])
    return float(np.average(saliency, weights=np.maximum(seconds, 0)))
