"""From the cosines of a video's frames and a sentence to moments, without any training.

Every window that is long enough is scored by how far it stands out from its video and from the
frames beside it; of windows that overlap the best stay. Real CLIP's cosines lie in a band of a
tenth or two whose place depends on the sentence, so only differences within a video count.
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
_MEAN_FRAMES = 1  # of the video's mean, added to each window: short ones are mostly noise
_NEIGHBOUR_WEIGHT = 1.2  # of the higher of the two frames beside a window, which speaks against it
_SAME_IOU = 0.5  # above which two windows are the same moment
_LEAST_STD = 1e-5  # what rounding embeddings to float16 does to a cosine


def similar_moments(
    cosines: Float64[np.ndarray, " frames"], frame_rate_fps: float, duration_seconds: float
) -> Float64[np.ndarray, "moments 3"]:
    """Return start and end in seconds and a score of the moments that stand out, best first.

    A window's score is the sum of its cosines less 1.2 times the higher of those of the frames just
    before and after it, divided by its number of frames and one more; cosines count from the mean
    of the video in its standard deviations. Moments after the first have that score times one minus
    their IoU with the one before that they overlap most. Windows have 3 frames up to half of the
    video, in videos of under 6 half of them. Where none stands out, as where all frames are alike,
    the only moment is the whole video, with the score 0.
    """
    std = cosines.std()
    whole = np.array([[0.0, duration_seconds, 0.0]])
    if std <= _LEAST_STD:
        return whole
    windows = _windows(len(cosines))
    scores = _scores((cosines - cosines.mean()) / std, windows)
    rows = np.column_stack([windows.astype(np.float64), scores])[scores > 0]
    if not len(rows):
        return whole
    found = _distinct(rows)
    found[:, :2] = np.minimum(found[:, :2] / frame_rate_fps, duration_seconds)
    return found


def _scores(
    curve: Float64[np.ndarray, " frames"], windows: Int64[np.ndarray, "windows 2"]
) -> Float64[np.ndarray, " windows"]:
    """Return how far windows stand out of a curve whose mean is 0 and from what is beside them."""
    starts, ends = windows.T
    sums = np.concatenate([[0.0], np.cumsum(curve)])
    padded = np.pad(curve, 1, constant_values=-np.inf)
    beside = np.maximum(padded[starts], padded[ends + 1])
    against = _NEIGHBOUR_WEIGHT * beside
    return (sums[ends] - sums[starts] - against) / (ends - starts + _MEAN_FRAMES)


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
    """Return the best windows, best first; the more one overlaps a better one, the less it counts.

    Those that a better one mostly covers are left out.
    """
    kept: list[np.ndarray] = []
    share = np.ones(len(rows))
    while len(rows) and len(kept) < MAX_MOMENTS:
        counted = rows[:, 2] * share
        best = int(counted.argmax())
        kept.append(np.append(rows[best, :2], counted[best]))
        overlap = moment_iou(rows[best], rows)
        share = np.minimum(share, 1 - overlap)
        other = overlap <= _SAME_IOU
        rows, share = rows[other], share[other]
    return np.array(kept)
