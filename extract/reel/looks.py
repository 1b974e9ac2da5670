"""Typical and diverse segments of a video, without training and without a sentence.

It begins with evenly spaced segments, which miss little that lasts, and moves one after another to
where all of them together are closest to the frames of the video: facility location over CLIP's
embeddings, searched from there. Closeness is of looks and of time. Looks alone would miss what
looks alike but happens at another time; time alone would leave the segments where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int

from r2t.extract.reel.segments import ReelPlan, Segment, joined_spans

_MOST_CANDIDATES = 2000  # all are compared with all, so this bounds memory
_MOST_ROUNDS = 6  # in which each segment may move once; more change next to nothing
_LOOKS = 0.5  # the distance in looks that counts, in mean squared distances of frames
_BY_TIME = 0.5  # the share of closeness that is lost far away in time
_TIME = 4.0  # how fast it is lost, for a distance in gaps between evenly spaced segments, squared
_CHANGE = 0.5  # the share of a frame's weight that depends on how much looks change there
_JUMP = 4.0  # a change of looks so many deviations above the median is a cut
_SHOWS_A_CUT = 0.5  # what a segment with a cut in it is worth
_SAME_LOOKS = 1e-5  # squared distance that the rounding of embeddings can make
_LEAST_CHANGE = 1e-3  # keeps rounding from counting as change where nothing changes
_SLACK = 1e-6


def typical_segments(
    embedding: Float[np.ndarray, "frames width"],
    frame_rate_fps: float,
    duration_seconds: float,
    length_seconds: float,
) -> list[Segment]:
    """Return typical and diverse segments, in time order, that last `length_seconds` together.

    A segment's weight is the share of the video's frames that are closer to it than to others. The
    reel is never less like the video, by `likeness`, than evenly spaced segments are: some of them,
    or all, stay where they were if it would be.

    Raises:
        ConfigError: as `ReelPlan` does.
    """
    plan = ReelPlan(duration_seconds, length_seconds)
    looks = embedding.astype(np.float32)
    choice = _Choice.of(looks, frame_rate_fps, plan)
    even = np.searchsorted(choice.starts_seconds, plan.even_starts)
    taken = _moved(choice, even, plan)
    taken = _moved_back(choice, taken, even, plan, (looks, frame_rate_fps))
    starts = choice.starts_seconds[taken]
    spans = joined_spans(
        [[start, start + plan.segment_seconds] for start in starts], choice.cuts_seconds
    )
    segment_of = np.searchsorted([start for start, _ in spans], starts, side="right") - 1
    nearest = segment_of[choice.closeness[taken].argmax(axis=0)]
    shares = np.bincount(nearest, minlength=len(spans)) / len(nearest)
    return [
        Segment(start, end, share)
        for (start, end), share in zip(spans, shares.tolist(), strict=True)
    ]


@dataclass(frozen=True, eq=False)
class _Choice:
    """Where segments can be, ascending, and how close to each frame of the video they are there.

    Of a long video its frames are stretches. `weights` are those of the frames.
    """

    starts_seconds: Float64[np.ndarray, " candidates"]
    closeness: Float64[np.ndarray, "candidates frames"]
    weights: Float64[np.ndarray, " frames"]
    cuts_seconds: Float64[np.ndarray, " cuts"]

    @classmethod
    def of(
        cls, looks: Float32[np.ndarray, "frames width"], frame_rate_fps: float, plan: ReelPlan
    ) -> _Choice:
        """Compare segments on the grid of frames, and evenly spaced ones, with all frames."""
        shown = window_means(looks, plan.segment_frames(len(looks), frame_rate_fps))
        jumps = _jumps(shown, len(looks))
        cuts_seconds = _cuts(jumps, len(looks) - len(shown) + 1) / frame_rate_fps
        starts = plan.starts(len(shown), frame_rate_fps)[_candidates(shown)]
        starts = np.union1d(starts, plan.even_starts)
        first = np.round(starts * frame_rate_fps).astype(np.int64)
        closeness = _closeness(shown[first.clip(0, len(shown) - 1)], _thinned(looks), starts, plan)
        middles = starts[:, None] + plan.segment_seconds / 2
        off_cuts = plan.segment_seconds / 2 - _SLACK
        show_a_cut = (np.abs(middles - cuts_seconds) < off_cuts).any(axis=1)
        change = _thinned(np.sqrt(jumps)[:, None])[:, 0].astype(np.float64) + _LEAST_CHANGE
        return cls(
            starts,
            closeness * np.where(show_a_cut, _SHOWS_A_CUT, 1.0)[:, None],
            1 - _CHANGE + _CHANGE * change / change.mean(),
            cuts_seconds,
        )


def _moved(
    choice: _Choice, even: Int[np.ndarray, " segments"], plan: ReelPlan
) -> Int[np.ndarray, " segments"]:
    """Move one segment after another to where it is worth most beside the others; return in order.

    This is the swap of k-medoids, which gets a segment past others where moving all would not help.
    """
    starts, taken = choice.starts_seconds, even.copy()
    for _ in range(_MOST_ROUNDS):
        before = taken.copy()
        for place in range(len(taken)):
            rest = np.delete(taken, place)
            free = np.flatnonzero(_clear(starts, starts[np.sort(rest)], plan))
            others = choice.closeness[rest].max(axis=0, initial=0.0)
            worth = np.maximum(choice.closeness[free], others) @ choice.weights
            here = worth[free == taken[place]]
            if worth.max() > (1 + _SLACK) * here.max(initial=0.0):
                taken[place] = free[int(worth.argmax())]
        if (taken == before).all():
            break
    return np.sort(taken)


def _clear(
    starts: Float64[np.ndarray, " candidates"],
    others: Float64[np.ndarray, " others"],
    plan: ReelPlan,
) -> Bool[np.ndarray, " candidates"]:
    """Return which segments overlap none of some others, whose starts ascend."""
    place = np.searchsorted(others, starts)
    padded = np.concatenate([[-np.inf], others, [np.inf]])
    apart = np.minimum(starts - padded[place], padded[place + 1] - starts)
    return apart >= plan.segment_seconds - _SLACK


def _moved_back(
    choice: _Choice,
    taken: Int[np.ndarray, " segments"],
    even: Int[np.ndarray, " segments"],
    plan: ReelPlan,
    video: tuple[Float32[np.ndarray, "frames width"], float],
) -> Int[np.ndarray, " segments"]:
    """Move segments back, one at a time, until the reel is as like its video as before."""

    def likeness_of_each(places: Int[np.ndarray, " segments"]) -> Float32[np.ndarray, "_ frames"]:
        starts = choice.starts_seconds[places].tolist()
        segments = [Segment(start, start + plan.segment_seconds, 0.0) for start in starts]
        return np.stack([likeness(*video, [segment]) for segment in segments])

    starts, taken = choice.starts_seconds, taken.copy()
    before, now = likeness_of_each(even), likeness_of_each(taken)
    needed = before.max(axis=0).mean()
    while now.max(axis=0).mean() < needed and (taken != even).any():
        padded = np.concatenate([[-np.inf], starts[taken], [np.inf]])
        apart = np.minimum(starts[even] - padded[:-2], padded[2:] - starts[even])
        # Never none: both are in order, so the last that has to go one way has its place.
        moved = np.flatnonzero((taken != even) & (apart >= plan.segment_seconds - _SLACK))
        found = [
            np.maximum(np.delete(now, place, axis=0).max(axis=0, initial=-1.0), before[place])
            for place in moved
        ]
        best = int(moved[int(np.mean(found, axis=1).argmax())])
        taken[best], now[best] = even[best], before[best]
    return taken


def likeness(
    embedding: Float[np.ndarray, "frames width"],
    frame_rate_fps: float,
    segments: Sequence[Segment],
) -> Float32[np.ndarray, " frames"]:
    """Return the cosine of each frame with the most similar frame that segments show."""
    looks = embedding.astype(np.float32)
    looks /= np.maximum(np.linalg.norm(looks, axis=1, keepdims=True), _SAME_LOOKS)
    middles = (np.arange(len(looks)) + 0.5) / frame_rate_fps
    shown = np.zeros(len(looks), dtype=bool)
    for segment in segments:
        shown |= (segment.start_seconds <= middles) & (middles < segment.end_seconds)
        middle = (segment.start_seconds + segment.end_seconds) / 2
        shown[np.abs(middles - middle).argmin()] = True  # also if it is shorter than a slot
    best = [
        (part @ looks[shown].T).max(axis=1)
        for part in np.array_split(looks, len(looks) // _MOST_CANDIDATES + 1)
    ]
    return np.concatenate(best)


def window_means(
    rows: Float32[np.ndarray, "frames width"], num_frames: int
) -> Float32[np.ndarray, "windows width"]:
    """Return the mean of each run of `num_frames` consecutive rows."""
    num_windows = len(rows) - num_frames + 1
    total = np.zeros((num_windows, rows.shape[1]), np.float32)
    for offset in range(num_frames):
        total += rows[offset : offset + num_windows]
    return total / num_frames


def _jumps(
    shown: Float32[np.ndarray, "windows width"], num_frames: int
) -> Float32[np.ndarray, " frames"]:
    """Return how far apart in looks, squared, the windows before and after each frame's start are.

    Frames too close to an end of the video have the value of the nearest that is not.
    """
    width = num_frames - len(shown) + 1
    if len(shown) <= width:
        return np.zeros(num_frames, np.float32)
    known = ((shown[width:] - shown[:-width]) ** 2).sum(axis=1)
    return np.pad(known, (width, width - 1), mode="edge")


def _cuts(jumps: Float32[np.ndarray, " frames"], width: int) -> Int[np.ndarray, " cuts"]:
    """Return the frames that begin a shot: where a jump stands out, and is the largest around."""
    deviation = np.median(np.abs(jumps - np.median(jumps)))
    least = np.median(jumps) + max(_JUMP * deviation, _SAME_LOOKS)
    reach = max(1, width // 2)  # so that a shot as long as a segment has both of its cuts
    padded = np.pad(jumps, reach)
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1)
    largest = (jumps >= around) & (jumps > least)
    return np.flatnonzero(largest & ~np.append(False, largest[:-1]))


def _thinned(
    rows: Float32[np.ndarray, "frames width"],
) -> Float32[np.ndarray, "_ width"]:
    """Return the rows, or if they are too many the means of neighbouring ones."""
    edges = _block_edges(len(rows))
    counts = np.diff(edges)[:, None].astype(np.float32)
    return np.add.reduceat(rows, edges[:-1]) / counts


def _block_edges(num_rows: int) -> Int[np.ndarray, " edges"]:
    num_blocks = min(num_rows, _MOST_CANDIDATES)
    return np.arange(num_blocks + 1) * num_rows // num_blocks


def _candidates(shown: Float32[np.ndarray, "windows width"]) -> Int[np.ndarray, " candidates"]:
    """Return every window, or if they are too many the one most like its stretch of the video."""
    edges = _block_edges(len(shown))
    means = _thinned(shown)
    return np.array(
        [
            start + int(((shown[start:end] - mean) ** 2).sum(axis=1).argmin())
            for start, end, mean in zip(edges[:-1], edges[1:], means, strict=True)
        ]
    )


def _closeness(
    shown: Float32[np.ndarray, "candidates width"],
    frames: Float32[np.ndarray, "frames width"],
    starts: Float64[np.ndarray, " candidates"],
    plan: ReelPlan,
) -> Float64[np.ndarray, "candidates frames"]:
    """Return from 0 to 1 how close each candidate is to each frame, in looks and in time."""
    # Not the median: in a video that is mostly still it would be next to nothing.
    scale = max(_LOOKS * float(_squared_distances(frames, frames).mean()), _SAME_LOOKS)
    middles = (np.arange(len(frames)) + 0.5) * plan.duration_seconds / len(frames)
    apart = starts[:, None] + plan.segment_seconds / 2 - middles
    gaps = apart * plan.num_segments / plan.duration_seconds
    by_time = 1 - _BY_TIME + _BY_TIME * np.exp(-_TIME * gaps**2)
    return np.exp(-_squared_distances(shown, frames) / scale) * by_time


def _squared_distances(
    rows: Float32[np.ndarray, "rows width"], others: Float32[np.ndarray, "others width"]
) -> Float32[np.ndarray, "rows others"]:
    lengths = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)
    return np.maximum(lengths - 2 * rows @ others.T, 0)
