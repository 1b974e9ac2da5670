"""From the cosines of a video's frames and a sentence to moments, without any training.

Every window that is long enough is scored by how far it stands out from its video, and of windows
that overlap the best one stays. Real CLIP's cosines lie in a band of a tenth or two whose place
depends on the sentence, so only differences within a video count, never their level.
`benchmarks/zero_shot.py` measures the rule; docs/zero-shot.md says what its numbers were chosen on.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from r2t.train.model import moment_iou

MAX_MOMENTS = 10  # as many as the benchmarks score
_LEAST_FRAMES = 3  # of a window: a frame or two that stand out are mostly noise
_GROWTH = 1.1  # from one length to the next
_STARTS_PER_LENGTH = 10  # by how much of its length a window moves on
_LENGTH_POWER = 0.25
_SAME_IOU = 0.4  # from which two windows are the same moment
_LEAST_STD = 1e-5  # what rounding embeddings to float16 does to a cosine


def similar_moments(
    cosines: Float64[np.ndarray, " frames"], frame_rate_fps: float, duration_seconds: float
) -> Float64[np.ndarray, "moments 3"]:
    """Return start and end in seconds and a score of the moments that stand out, best first.

    The score is by how many standard deviations of the video's cosines a window's mean lies above
    the mean of the video, times the fourth root of its number of frames. Windows have 3 frames up
    to half of the video, in videos of under 6 half of them. Where none stands out, as where all
    frames are alike, the only moment is the whole video, with the score 0.
    """
    std = cosines.std()
    whole = np.array([[0.0, duration_seconds, 0.0]])
    if std <= _LEAST_STD:
        return whole
    windows = _windows(len(cosines))
    sums = np.concatenate([[0.0], np.cumsum(cosines - cosines.mean())])
    lengths = windows[:, 1] - windows[:, 0]
    means = (sums[windows[:, 1]] - sums[windows[:, 0]]) / lengths
    scores = means / std * lengths**_LENGTH_POWER
    rows = np.column_stack([windows.astype(np.float64), scores])[scores > 0]
    if not len(rows):
        return whole
    found = _distinct(rows)
    found[:, :2] = np.minimum(found[:, :2] / frame_rate_fps, duration_seconds)
    return found


def _windows(num_frames: int) -> Int64[np.ndarray, "windows 2"]:
    """Return first frame and end of windows: every short one, and a choice of the long ones.

    Their number is proportional to that of the frames, of which there are at least two.
    """
    parts: list[np.ndarray] = []
    length = min(_LEAST_FRAMES, num_frames // 2)
    while length <= num_frames // 2:
        last = num_frames - length
        step = max(1, length // _STARTS_PER_LENGTH)
        starts = np.append(np.arange(0, last, step), last)
        parts.append(np.column_stack([starts, starts + length]))
        length = max(length + 1, round(length * _GROWTH))
    return np.concatenate(parts).astype(np.int64)


def _distinct(rows: Float64[np.ndarray, "windows 3"]) -> Float64[np.ndarray, "moments 3"]:
    """Return the best windows, best first, without those that a better one mostly covers."""
    kept: list[np.ndarray] = []
    while len(rows) and len(kept) < MAX_MOMENTS:
        best = rows[int(rows[:, 2].argmax())]
        kept.append(best)
        rows = rows[moment_iou(best, rows) <= _SAME_IOU]
    return np.array(kept)
