"""Sentences asked of a whole collection: are the right videos found, and the right moments?

For `video-R@k` an answer is right if a video that fits is among the first k. For `VCMR-R@k@θ`
(video corpus moment retrieval) the moments of all videos stand in one order, and one of the first k
must reach an IoU of θ with a moment that is annotated for this sentence and its video: a video that
fits without being annotated counts as wrong. It is undefined for a sentence without any annotated
moment.

As in published rankings (XML, CONQUER) a moment's score is multiplied with the exponential of a
weighted score of its video. Here the latter counts in standard deviations over the videos asked, so
that the weight does not depend on how wide a CLIP's cosines spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from r2t.store.annotations import Annotation
from r2t.store.errors import AnnotationError
from r2t.train.metrics.moments import pairwise_iou
from r2t.train.metrics.relevance import Relevance

DEPTHS = (1, 5, 10, 100)
IOUS = (0.5, 0.7)
MOMENTS_PER_VIDEO = 10  # that are ranked, at most
_VIDEO_WEIGHT = 0.5  # chosen on validation videos: docs/search.md


@dataclass(frozen=True, eq=False)
class CorpusAnswers:
    """How each query scores each video, and the moments found in it.

    Moments are start and end in seconds and a score above 0, best first; where a video has fewer
    than others, the rest are zeros.
    """

    query_ids: Sequence[str]
    video_ids: Sequence[str]
    scores: Float64[np.ndarray, "queries videos"]
    moments: Float64[np.ndarray, "queries videos moments 3"]

    def order(self) -> Float64[np.ndarray, "queries videos moments"]:
        """Return what the moments of all videos are ranked by; -inf where there is none."""
        spread = self.scores.std(axis=1, keepdims=True)
        above = self.scores - self.scores.mean(axis=1, keepdims=True)
        above = np.divide(above, spread, out=np.zeros_like(above), where=spread > 0)
        own = self.moments[..., 2]
        none = np.full(own.shape, -np.inf)
        return np.log(own, out=none, where=own > 0) + _VIDEO_WEIGHT * above[:, :, None]


def score_corpus(
    answers: CorpusAnswers, annotations: Sequence[Annotation], relevance: Relevance
) -> dict[str, Float64[np.ndarray, " queries"]]:
    """Return each metric's value for each query: 0 or 100, NaN where it is undefined."""
    return {
        each.name: np.where(
            each.known, 100.0 * (_first_rank(each.order, each.right) < each.depth), np.nan
        )
        for each in _metrics(answers, annotations, relevance)
    }


def score_chance(
    answers: CorpusAnswers, annotations: Sequence[Annotation], relevance: Relevance
) -> dict[str, Float64[np.ndarray, " queries"]]:
    """Return what the same videos and moments score if they stand in any order, exactly."""
    return {
        each.name: np.where(each.known, 100.0 * _chance(each.order, each.right, each.depth), np.nan)
        for each in _metrics(answers, annotations, relevance)
    }


@dataclass(frozen=True, eq=False)
class _Metric:
    """What is ranked by what, which of it answers rightly, for which queries that is known."""

    name: str
    order: Float64[np.ndarray, "queries ranked"]
    right: Bool[np.ndarray, "queries ranked"]
    known: Bool[np.ndarray, " queries"]
    depth: int


def _metrics(
    answers: CorpusAnswers, annotations: Sequence[Annotation], relevance: Relevance
) -> list[_Metric]:
    column = {video_id: place for place, video_id in enumerate(answers.video_ids)}
    fitting = np.zeros(answers.scores.shape, np.bool_)
    for row, query_id in enumerate(answers.query_ids):
        fitting[row, [column[each] for each in relevance[query_id] if each in column]] = True
    if not fitting.any(axis=1).all():
        missing = answers.query_ids[int(np.argmin(fitting.any(axis=1)))]
        raise AnnotationError(f"no video that was asked is right for the query {missing!r}")
    overlaps = _best_overlaps(answers, annotations, column)
    sentences = {row.query_id: row.query for row in annotations}
    with_moments = {row.query for row in annotations if len(row.moments)}
    known = np.array([sentences[query_id] in with_moments for query_id in answers.query_ids])
    every = np.ones_like(known)
    order = answers.order().reshape(len(fitting), -1)
    found = [
        _Metric(f"video-R@{depth}", answers.scores, fitting, every, depth)
        for depth in DEPTHS
        if depth < len(answers.video_ids)
    ]
    for iou in IOUS:
        right = (overlaps >= iou).reshape(order.shape) & np.isfinite(order)
        found += [
            _Metric(f"VCMR-R@{depth}@{iou}", order, right, known, depth)
            for depth in DEPTHS
            if depth < order.shape[1]
        ]
    return found


def _best_overlaps(
    answers: CorpusAnswers, annotations: Sequence[Annotation], column: dict[str, int]
) -> Float64[np.ndarray, "queries videos moments"]:
    """Return the IoU of each moment with the nearest annotated one of sentence and video."""
    sentences = {row.query_id: row.query for row in annotations}
    annotated: dict[str, list[Annotation]] = {}
    for row in annotations:
        annotated.setdefault(row.query, []).append(row)
    best = np.zeros(answers.moments.shape[:-1])
    for place, query_id in enumerate(answers.query_ids):
        for row in annotated[sentences[query_id]]:
            if row.video_id in column and len(row.moments):
                at = (place, column[row.video_id])
                ious = pairwise_iou(answers.moments[at][None], row.moments[None])[0]
                best[at] = np.maximum(best[at], ious.max(axis=1))
    return best


def _first_rank(
    order: Float64[np.ndarray, "queries ranked"], right: Bool[np.ndarray, "queries ranked"]
) -> Int64[np.ndarray, " queries"]:
    """Return how many wrong answers come before the first right one; equal scores come before."""
    best = np.where(right, order, -np.inf).max(axis=1, keepdims=True)
    before = ((order >= best) & ~right).sum(axis=1)
    return np.where(right.any(axis=1), before, order.shape[1])


def _chance(
    order: Float64[np.ndarray, "queries ranked"],
    right: Bool[np.ndarray, "queries ranked"],
    depth: int,
) -> Float64[np.ndarray, " queries"]:
    """Return how likely one of the right answers is among the first of a random order."""
    num_ranked = np.isfinite(order).sum(axis=1)[:, None]
    wrong = num_ranked - right.sum(axis=1)[:, None]
    drawn = np.arange(depth)
    missed = np.clip(wrong - drawn, 0, None) / np.maximum(num_ranked - drawn, 1)
    return np.where(right.any(axis=1), 1 - np.prod(missed, axis=1), 0.0)
