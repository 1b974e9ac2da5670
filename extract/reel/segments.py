"""The segments of a reel: how long they are, and how they are placed without overlapping.

Segments of a short reel last two seconds, and those of longer reels grow with the square root of
its length. All are equally long but for those that touch, which are one unless a cut is between.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from r2t.store.errors import ConfigError

LEAST_SECONDS = 2.0  # of a segment: less is hard to take in

_STEADY_SECONDS = 30.0  # the longest reel whose segments are that short
_TOLERANCE_SECONDS = 1e-6

Gains = Callable[[int | None], Float64[np.ndarray, " candidates"]]


@dataclass(frozen=True)
class Segment:
    """A part of a video in a reel; what `weight` means is defined by the function that chose it."""

    start_seconds: float
    end_seconds: float
    weight: float

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.end_seconds - self.start_seconds


@dataclass(frozen=True)
class ReelPlan:
    """How many segments a reel has and how long each is, which is never under `LEAST_SECONDS`.

    Raises:
        ConfigError: if the reel is longer than the video, or shorter than a segment.
    """

    duration_seconds: float
    length_seconds: float

    def __post_init__(self) -> None:
        if self.duration_seconds < LEAST_SECONDS:
            raise ConfigError(
                f"a video of {self.duration_seconds:.10g} s has no reel: it takes "
                f"{LEAST_SECONDS:g} s or more"
            )
        if not LEAST_SECONDS <= self.length_seconds <= self.duration_seconds:
            raise ConfigError(
                f"a reel of {self.length_seconds:.10g} s of a video of "
                f"{self.duration_seconds:.10g} s: it must last {LEAST_SECONDS:g} s or more, and "
                "no longer than the video"
            )

    @property
    def num_segments(self) -> int:
        """Number of segments, counting those that touch."""
        growth = max(1.0, math.sqrt(self.length_seconds / _STEADY_SECONDS))
        return int(self.length_seconds / (growth * LEAST_SECONDS))

    @property
    def segment_seconds(self) -> float:
        """How long a segment is."""
        return self.length_seconds / self.num_segments

    @property
    def even_starts(self) -> Float64[np.ndarray, " segments"]:
        """Where segments begin that are evenly spaced over the video."""
        middles = (np.arange(self.num_segments) + 0.5) * self.duration_seconds / self.num_segments
        return middles - self.segment_seconds / 2

    def segment_frames(self, num_frames: int, frame_rate_fps: float) -> int:
        """Return how many sampled frames a segment shows."""
        return min(num_frames, max(1, round(self.segment_seconds * frame_rate_fps)))

    def starts(self, num_windows: int, frame_rate_fps: float) -> Float64[np.ndarray, " windows"]:
        """Return where segments begin that show frames from 0, 1, … on, within the video."""
        latest = self.duration_seconds - self.segment_seconds
        return np.minimum(np.arange(num_windows) / frame_rate_fps, latest)

    def choose(
        self, starts: Float64[np.ndarray, " candidates"], gains: Gains
    ) -> Int[np.ndarray, " taken"]:
        """Take the candidate of the highest gain, again and again; return them in time order.

        `gains` is called with the candidate taken last, None before the first. Candidates that
        overlap a taken one are ruled out, so fewer may be taken than planned: see `fill`.
        """
        free: Bool[np.ndarray, " candidates"] = np.ones(len(starts), dtype=bool)
        taken: list[int] = []
        while len(taken) < self.num_segments and free.any():
            gain = np.where(free, gains(taken[-1] if taken else None), -np.inf)
            taken.append(int(gain.argmax()))
            apart = np.abs(starts - starts[taken[-1]])
            free &= apart >= self.segment_seconds - _TOLERANCE_SECONDS
        return np.array(sorted(taken, key=lambda candidate: starts[candidate]))

    def fill(
        self, starts: Float64[np.ndarray, " taken"], cuts_seconds: Float[np.ndarray, " cuts"]
    ) -> list[tuple[float, float]]:
        """Return spans from these starts, in time order, lengthened if there are too few segments.

        Together they last as long as the reel. They are lengthened up to the next cut, and beyond
        it only if that is not enough; spans that touch become one, but not at a cut.
        """
        spans = [[start, start + self.segment_seconds] for start in starts.tolist()]
        lacking = self.length_seconds - len(spans) * self.segment_seconds
        ends = np.array([0.0, self.duration_seconds])
        for edges in (np.union1d(ends, cuts_seconds), ends):
            for place, (start, end) in enumerate(spans):
                following = spans[place + 1][0] if place + 1 < len(spans) else ends[1]
                later = edges[edges >= end - _TOLERANCE_SECONDS].min(initial=following)
                grown = min(lacking, max(0.0, float(later) - end))
                lacking -= grown
                preceding = spans[place - 1][1] if place else 0.0
                earlier = edges[edges <= start + _TOLERANCE_SECONDS].max(initial=preceding)
                begun = min(lacking, max(0.0, start - float(earlier)))
                lacking -= begun
                spans[place] = [start - begun, end + grown]
        return joined_spans(spans, cuts_seconds)


def joined_spans(
    spans: list[list[float]], cuts_seconds: Float[np.ndarray, " cuts"]
) -> list[tuple[float, float]]:
    """Return spans in time order, those that touch as one, but not at a cut."""
    found: list[tuple[float, float]] = []
    for start, end in spans:
        at_a_cut = bool((np.abs(cuts_seconds - start) < _TOLERANCE_SECONDS).any())
        if found and start - found[-1][1] < _TOLERANCE_SECONDS and not at_a_cut:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def evenly_spaced(duration_seconds: float, length_seconds: float) -> list[Segment]:
    """Return the segments of a reel that looks at nothing: evenly spaced over the video."""
    plan = ReelPlan(duration_seconds, length_seconds)
    starts, seconds = plan.even_starts.tolist(), plan.segment_seconds
    return [Segment(start, start + seconds, 1 / len(starts)) for start in starts]
