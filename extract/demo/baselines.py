"""What a trained model must beat: moments from no video, and from frame-sentence similarity alone.

Moments are float64 [n, 3] as in a grounding: start and end in seconds, score, best first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from numpy.random import Generator

from r2t.store.errors import ConfigError

ScoredMoments = Float[ndarray, "moments 3"]
Rank = Literal["mean", "peak"]


def whole_video(duration_seconds: float) -> ScoredMoments:
    """Answer every query with the whole video."""
    return np.array([[0.0, duration_seconds, 1.0]])


def random_moments(
    rng: Generator, duration_seconds: float, *, num_moments: int = 10
) -> ScoredMoments:
    """Draw moments whose ends are uniform over the video."""
    ends = np.sort(rng.uniform(0, duration_seconds, (num_moments, 2)), axis=1)
    scores = np.sort(rng.random(num_moments))[::-1]
    return np.column_stack([ends, scores])


@dataclass(frozen=True)
class SimilarityRule:
    """One way to read moments off a curve of frame-sentence similarities.

    The curve is averaged over `smooth` frames and scaled to 0…1 within the video. With `seconds`
    the answer is the window of that length with the highest mean, then the next that does not
    touch it, and so on; without, it is every run of frames above `level`. `rank` scores a moment by
    its mean or its peak.
    """

    smooth: int
    level: float | None = None
    seconds: float | None = None
    rank: Rank = "mean"

    def __post_init__(self) -> None:
        assert (self.level is None) != (self.seconds is None)
        assert self.smooth % 2 == 1

    def __call__(
        self, similarity: Float[ndarray, " frames"], frame_rate_fps: float, duration_seconds: float
    ) -> ScoredMoments:
        """Return moments; frame i covers the seconds [i, i + 1) / frame_rate_fps."""
        curve = smoothed_curve(similarity, self.smooth)
        return self.read(curve, frame_rate_fps, duration_seconds)

    def read(
        self, curve: Float[ndarray, " frames"], frame_rate_fps: float, duration_seconds: float
    ) -> ScoredMoments:
        """Return the moments of a smoothed curve, which several rules may share."""
        if self.level is not None:
            spans = _runs_above(curve, self.level)
        else:
            assert self.seconds is not None
            length = min(max(1, round(self.seconds * frame_rate_fps)), len(curve))
            spans = _best_windows(curve, length)
        if self.rank == "mean":
            scores = np.array([np.add.reduce(curve[a:b]) / (b - a) for a, b in spans])
        else:
            scores = np.array([np.maximum.reduce(curve[a:b]) for a, b in spans])
        order = np.argsort(-scores, kind="stable")
        ends = np.minimum(np.array(spans)[order] / frame_rate_fps, duration_seconds)
        return np.column_stack([ends, scores[order]])


LEVELS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
RULES: tuple[SimilarityRule, ...] = (
    *(
        SimilarityRule(smooth, level=level, rank=rank)
        for smooth, level, rank in product(
            (1, 3, 5), (0.3, 0.4, 0.5, 0.6, 0.7, 0.8), get_args(Rank)
        )
    ),
    *(
        SimilarityRule(smooth, seconds=seconds)
        for smooth, seconds in product((1, 3), (4.0, 5.0, 6.0, 8.0, 10.0))
    ),
)


def choose_similarity_rule(score: Callable[[SimilarityRule], float]) -> SimilarityRule:
    """Return the rule that scores highest, to be asked on training videos only."""
    return max(RULES, key=score)


def sentences_of_others(video_ids: Sequence[str], rng: Generator) -> Int[ndarray, " queries"]:
    """Draw a permutation of queries that gives each one a sentence asked of another video.

    A model that answers as well with other videos' sentences has not read them.
    """
    videos = {video: rank for rank, video in enumerate(rng.permutation(sorted(set(video_ids))))}
    order = np.argsort([videos[video] for video in video_ids], kind="stable")
    largest = max(np.unique([videos[v] for v in video_ids], return_counts=True)[1])
    if 2 * largest > len(order):
        raise ConfigError(
            f"one video has {largest} of {len(order)} queries: the other videos have too few "
            "sentences to exchange with it"
        )
    lenders = np.empty_like(order)
    lenders[order] = np.roll(order, len(order) // 2)
    return lenders


def smoothed_curve(similarity: Float[ndarray, " frames"], width: int) -> Float[ndarray, " frames"]:
    """Return a curve averaged over so many frames, from 0 at its lowest to 1 at its highest."""
    curve = similarity.astype(np.float64)
    if width > 1:
        ends = curve[:1].repeat(width // 2), curve[-1:].repeat(width // 2)
        padded = np.concatenate([ends[0], curve, ends[1]])
        curve = np.convolve(padded, np.full(width, 1 / width), mode="valid")
    return _scaled(curve)


def _scaled(curve: Float[ndarray, " frames"]) -> Float[ndarray, " frames"]:
    low, high = curve.min(), curve.max()
    return (curve - low) / (high - low) if high > low else np.ones_like(curve)


def _runs_above(curve: Float[ndarray, " frames"], level: float) -> list[tuple[int, int]]:
    above = np.zeros(len(curve) + 2, np.bool_)
    np.greater_equal(curve, level, out=above[1:-1])
    edges = np.flatnonzero(above[1:] != above[:-1]).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def _best_windows(curve: Float[ndarray, " frames"], length: int) -> list[tuple[int, int]]:
    means = np.convolve(curve, np.full(length, 1 / length), mode="valid")
    spans: list[tuple[int, int]] = []
    while np.isfinite(means).any():
        start = int(means.argmax())
        spans.append((start, start + length))
        means[max(0, start - length + 1) : start + length] = -np.inf
    return spans
