"""Sentences asked of a whole collection: are the right videos found, and the right moments?

For `video-R@k` an answer is right if a video that fits is among the first k. For `VCMR-R@k@θ`
(video corpus moment retrieval) the first k videos answer with their best moment each, and one of
them must reach an IoU of θ with a moment that is annotated for this sentence and that video: a
video that fits without being annotated counts as wrong. It is undefined for a sentence without any
annotated moment.
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


@dataclass(frozen=True, eq=False)
class CorpusAnswers:
    """How each query ranks each video, and the best moment found in it: start and end in seconds.

    Where a video has none, start and end are 0.
    """

    query_ids: Sequence[str]
    video_ids: Sequence[str]
    scores: Float64[np.ndarray, "queries videos"]
    moments: Float64[np.ndarray, "queries videos 2"]


def score_corpus(
    answers: CorpusAnswers, annotations: Sequence[Annotation], relevance: Relevance
) -> dict[str, Float64[np.ndarray, " queries"]]:
    """Return each metric's value for each query: 0 or 100, NaN where it is undefined."""
    return {
        name: np.where(known, 100.0 * (_first_rank(answers.scores, right) < depth), np.nan)
        for name, right, known, depth in _metrics(answers, annotations, relevance)
    }


def score_chance(
    answers: CorpusAnswers, annotations: Sequence[Annotation], relevance: Relevance
) -> dict[str, Float64[np.ndarray, " queries"]]:
    """Return what the same moments score if the videos stand in any order, exactly."""
    return {
        name: np.where(known, 100.0 * _chance(right, depth), np.nan)
        for name, right, known, depth in _metrics(answers, annotations, relevance)
    }


def _metrics(
    answers: CorpusAnswers, annotations: Sequence[Annotation], relevance: Relevance
) -> list[tuple[str, Bool[np.ndarray, "queries videos"], Bool[np.ndarray, " queries"], int]]:
    """Return each metric's name, which videos are right, for which queries it is known, its k."""
    depths = [depth for depth in DEPTHS if depth < len(answers.video_ids)]
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
    found = [(f"video-R@{depth}", fitting, every, depth) for depth in depths]
    for iou in IOUS:
        found += [(f"VCMR-R@{depth}@{iou}", overlaps >= iou, known, depth) for depth in depths]
    return found


def _best_overlaps(
    answers: CorpusAnswers, annotations: Sequence[Annotation], column: dict[str, int]
) -> Float64[np.ndarray, "queries videos"]:
    """Return the IoU of each best moment with the nearest annotated one of sentence and video."""
    sentences = {row.query_id: row.query for row in annotations}
    annotated: dict[str, list[Annotation]] = {}
    for row in annotations:
        annotated.setdefault(row.query, []).append(row)
    best = np.zeros(answers.scores.shape)
    for place, query_id in enumerate(answers.query_ids):
        for row in annotated[sentences[query_id]]:
            if row.video_id in column and len(row.moments):
                at = (place, column[row.video_id])
                iou = pairwise_iou(answers.moments[at][None, None], row.moments[None])
                best[at] = max(best[at], iou.max())
    return best


def _first_rank(
    scores: Float64[np.ndarray, "queries videos"], right: Bool[np.ndarray, "queries videos"]
) -> Int64[np.ndarray, " queries"]:
    """Return how many wrong videos come before the first right one; equal scores come before."""
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    before = ((scores >= best) & ~right).sum(axis=1)
    return np.where(right.any(axis=1), before, scores.shape[1])


def _chance(
    right: Bool[np.ndarray, "queries videos"], depth: int
) -> Float64[np.ndarray, " queries"]:
    """Return how likely one of the right videos is among the first of a random order."""
    num_videos = right.shape[1]
    wrong = (num_videos - right.sum(axis=1))[:, None]
    drawn = np.arange(depth)
    return 1 - np.prod(np.clip((wrong - drawn) / (num_videos - drawn), 0, 1), axis=1)
