"""Highlight detection, every query at once: QVHighlights, YouTube Highlights and TVSum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from r2t.train.metrics.moments import pad

# An annotator's score from which a clip is a highlight.
HIGHLIGHT_LEVELS = {"Fair": 2, "Good": 3, "VeryGood": 4}

TVSUM_TOP_CLIPS = 5


@dataclass(frozen=True, eq=False)
class HighlightValues:
    """Per query and level, in the order of HIGHLIGHT_LEVELS.

    `average_precision` is the mean over annotators, 0 for one who saw no highlight; `hit` is 1 if
    any annotator calls the best-scored clip a highlight.
    """

    average_precision: Float64[np.ndarray, "queries levels"]
    hit: Float64[np.ndarray, "queries levels"]


def highlight_values(
    saliencies: Sequence[Float64[np.ndarray, " _"]],
    labels: Sequence[Float[np.ndarray, "_ annotators"]],
) -> HighlightValues:
    """Compare each query's saliency per clip with its annotators' scores, as QVHighlights does.

    Saliency of more clips than are scored is cut, of fewer is continued with 0, for the average
    precision; the best-scored clip is sought before that, and is no hit if nobody scored it.
    """
    label, real = pad([rows.astype(np.float64) for rows in labels])
    num_clips = real.shape[1]
    score, _ = pad([row[:num_clips, None] for row in saliencies], longest=num_clips)
    cost = np.where(real, -score[..., 0], np.inf)
    order = np.argsort(cost, axis=1, kind="stable")
    ranked_cost = np.take_along_axis(cost, order, axis=1)
    ranked_label = np.take_along_axis(label, order[..., None], axis=1)
    best = np.array([int(np.argmax(row)) for row in saliencies])
    best_label = label[np.arange(len(labels)), np.minimum(best, num_clips - 1)]
    best_label[best >= [len(rows) for rows in labels]] = -np.inf
    # Running sums and maxima go along the first axis: numpy then works on whole rows.
    by_clip = np.ascontiguousarray(ranked_label.transpose(1, 2, 0))
    closes = _closes_level(np.ascontiguousarray(ranked_cost.T))
    precisions, hits = [], []
    for level in HIGHLIGHT_LEVELS.values():
        precision = _level_average_precision(by_clip >= level, closes)  # padding scores 0
        precisions.append(precision.mean(axis=0))
        hits.append((best_label >= level).any(axis=1))
    return HighlightValues(np.stack(precisions, axis=1), np.stack(hits, axis=1).astype(np.float64))


def _closes_level(
    cost: Float64[np.ndarray, "clips queries"],
) -> Bool[np.ndarray, "clips queries"]:
    """Tell the last clip of each run of equal scores; `cost` is infinite past the last clip."""
    last = np.ones((1, cost.shape[1]), dtype=bool)
    return np.concatenate([cost[1:] != cost[:-1], last]) & np.isfinite(cost)


def _level_average_precision(
    positive: Bool[np.ndarray, "clips annotators queries"],
    closes: Bool[np.ndarray, "clips queries"],
) -> Float64[np.ndarray, "annotators queries"]:
    """Mean interpolated precision over the score levels that bring a highlight.

    Clips are ranked. Those of equal score come in together, where their level closes, and a level
    counts once, however many highlights it brings.
    """
    num_hits = np.cumsum(positive, axis=0, dtype=np.int32) * closes[:, None]  # 0 within a level
    brings = num_hits > 0
    brings[1:] &= num_hits[1:] > np.maximum.accumulate(num_hits, axis=0)[:-1]
    precision = num_hits / np.arange(1, len(positive) + 1)[:, None, None]
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    return (precision * brings).sum(axis=0) / np.maximum(brings.sum(axis=0), 1)


def youtube_average_precision(
    saliencies: Sequence[Float64[np.ndarray, " _"]],
    labels: Sequence[Float[np.ndarray, "_ annotators"]],
) -> Float64[np.ndarray, " videos"]:
    """Average precision of each video's ranking, a clip being positive if scored above 0."""
    ranked = [
        (label > 0)[np.argsort(-saliency, kind="stable")]
        for saliency, label in zip(saliencies, labels, strict=True)
    ]
    return _trapezoid_average_precision(ranked)[:, 0]


def tvsum_average_precision(
    saliencies: Sequence[Float64[np.ndarray, " _"]],
    labels: Sequence[Float[np.ndarray, "_ annotators"]],
) -> Float64[np.ndarray, "videos annotators"]:
    """Average precision of each video's five best clips, per annotator.

    A clip is positive if an annotator scores it above the (lower) median of all scores they gave
    the video. Where a video ends before or after its scored clips, the clips both have are ranked.
    """
    ranked = []
    for saliency, label in zip(saliencies, labels, strict=True):
        median = np.sort(label, axis=0)[(len(label) - 1) // 2]
        order = np.argsort(-saliency[: len(label)], kind="stable")[:TVSUM_TOP_CLIPS]
        ranked.append((label > median)[order])
    return _trapezoid_average_precision(ranked)


def _trapezoid_average_precision(
    ranked: Sequence[Bool[np.ndarray, "_ annotators"]],
) -> Float64[np.ndarray, "videos annotators"]:
    """Area under the precision-recall curve by trapezoids, from precision 1 at recall 0.

    Recall is over the positives in the list, so a list without any has average precision 0.
    """
    positive, _ = pad([rows.astype(np.float64) for rows in ranked])
    num_hits: Int[np.ndarray, "videos clips annotators"] = positive.cumsum(axis=1).astype(np.int64)
    precision = num_hits / np.arange(1, positive.shape[1] + 1)[:, None]
    recall = num_hits / np.maximum(num_hits[:, -1:], 1)
    before = np.concatenate([np.ones_like(precision[:, :1]), precision[:, :-1]], axis=1)
    return (np.diff(recall, axis=1, prepend=0) * (before + precision) / 2).sum(axis=1)
