"""Moment retrieval, every query at once: IoU, R1, R5, average precision per range of lengths.

All queries with about as many moments share padded arrays, and a loop runs only over the ten
predictions that count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

AP_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
RECALL_THRESHOLDS = tuple(round(0.3 + 0.05 * step, 2) for step in range(14))

# Lengths of ground truth in seconds, above the first and up to the second.
LENGTH_RANGES = {
    "full": (-np.inf, np.inf),
    "long": (30, np.inf),
    "middle": (10, 30),
    "short": (0, 10),
}

_MAX_PREDICTIONS = 10


@dataclass(frozen=True, eq=False)
class MomentValues:
    """Per range (in the order of RANGES) and query; NaN where a query has no moment in a range.

    `first_iou` is the IoU of the first listed prediction with the best-fitting moment, `five_iou`
    the best of the first five.
    """

    average_precision: Float64[np.ndarray, "ranges queries thresholds"]
    first_iou: Float64[np.ndarray, "ranges queries"]
    five_iou: Float64[np.ndarray, "ranges queries"]


def moment_values(
    predictions: Sequence[Float64[np.ndarray, "_ 3"]],
    truths: Sequence[Float64[np.ndarray, "_ 2"]],
    *,
    strict_official: bool = False,
) -> MomentValues:
    """Compare each query's predictions [start, end, score], as listed, with its true moments.

    Every query must have at least one of both. The official evaluators leave 0/0 in the IoU of two
    moments without length, and average precision then takes it for a hit: `strict_official` does
    too, otherwise that IoU is 0.
    """
    assert len(predictions) == len(truths), "one list of predictions per query"
    shape = (len(LENGTH_RANGES), len(truths))
    values = MomentValues(
        np.full((*shape, len(AP_THRESHOLDS)), np.nan),
        np.full(shape, np.nan),
        np.full(shape, np.nan),
    )
    num_truths = np.array([len(truth) for truth in truths])
    # Padding to the next power of two at most doubles the work, whatever the longest list is.
    sizes = 2 ** np.ceil(np.log2(np.maximum(num_truths, 1))).astype(np.int64)
    for size in np.unique(sizes):
        queries = np.flatnonzero(sizes == size).tolist()
        predicted, is_predicted = pad([predictions[q][:_MAX_PREDICTIONS] for q in queries])
        truth, is_truth = pad([truths[q] for q in queries])
        iou = pairwise_iou(predicted, truth)
        order = np.argsort(np.where(is_predicted, -predicted[..., 2], np.inf), kind="stable")
        in_range = _in_range(truth) & is_truth
        # One problem is one query in one range.
        ranges, rows = np.nonzero(in_range.any(axis=-1))
        where = ranges, np.array(queries)[rows]
        relevant = in_range[ranges, rows]
        best = np.where(relevant[:, None], iou[rows, :5], 0).max(axis=-1)
        values.first_iou[where] = best[:, 0]
        values.five_iou[where] = best.max(axis=-1)
        if strict_official:
            both = is_predicted[:, :, None] & is_truth[:, None]
            iou[(_union(predicted, truth) == 0) & both] = np.inf  # NaN is not < any threshold
        ranked = np.take_along_axis(iou, order[..., None], axis=1)[rows]
        true_positive = _match(np.where(relevant[:, None], ranked, 0))
        values.average_precision[where] = _average_precision(true_positive, relevant.sum(axis=-1))
    return values


def pad(
    lists: Sequence[Float64[np.ndarray, "_ width"]], longest: int = 0
) -> tuple[Float64[np.ndarray, "lists longest width"], Bool[np.ndarray, "lists longest"]]:
    """Stack lists of unequal length, with zeros at their ends, and say what is real.

    The result is as long as the longest list, or as `longest` if that is more.
    """
    lengths = np.array([len(rows) for rows in lists])
    real = np.arange(max(longest, lengths.max())) < lengths[:, None]
    padded = np.zeros((*real.shape, lists[0].shape[1]))
    padded[real] = np.concatenate(lists)
    return padded, real


def pairwise_iou(
    predicted: Float64[np.ndarray, "queries predictions _"],
    truth: Float64[np.ndarray, "queries truths 2"],
) -> Float64[np.ndarray, "queries predictions truths"]:
    """Return the IoU of each prediction, which begins with start and end, with each true moment.

    That of two moments without length is 0.
    """
    overlap = _overlap(predicted, truth)
    union = _union(predicted, truth)
    return np.divide(overlap, union, out=np.zeros_like(union), where=overlap > 0)


def _overlap(
    predicted: Float64[np.ndarray, "queries predictions _"],
    truth: Float64[np.ndarray, "queries truths 2"],
) -> Float64[np.ndarray, "queries predictions truths"]:
    start = np.maximum(predicted[:, :, None, 0], truth[:, None, :, 0])
    end = np.minimum(predicted[:, :, None, 1], truth[:, None, :, 1])
    return np.maximum(end - start, 0)


def _union(
    predicted: Float64[np.ndarray, "queries predictions _"],
    truth: Float64[np.ndarray, "queries truths 2"],
) -> Float64[np.ndarray, "queries predictions truths"]:
    lengths = (predicted[..., 1] - predicted[..., 0])[:, :, None]
    true_lengths = (truth[..., 1] - truth[..., 0])[:, None, :]
    return lengths + true_lengths - _overlap(predicted, truth)


def _in_range(
    truth: Float64[np.ndarray, "queries truths 2"],
) -> Bool[np.ndarray, "ranges queries truths"]:
    lengths = truth[..., 1] - truth[..., 0]
    return np.stack([(low < lengths) & (lengths <= high) for low, high in LENGTH_RANGES.values()])


def _match(
    iou: Float64[np.ndarray, "problems predictions truths"],
) -> Bool[np.ndarray, "problems predictions thresholds"]:
    """Decide per threshold which predictions, best score first, are true positives.

    Each takes the best-fitting moment that no better-scored prediction took, if it fits well
    enough; of two that fit equally, the one listed later. Only the few moments that reach the
    lowest threshold can be taken, so no more than those are visited.
    """
    thresholds = np.array(AP_THRESHOLDS)
    num_problems, num_predictions, num_truths = iou.shape
    num_candidates = int((iou >= thresholds[0]).sum(axis=-1).max(initial=0))
    backwards = np.argsort(-iou[..., ::-1], axis=-1, kind="stable")[..., :num_candidates]
    candidates: Int64[np.ndarray, "problems predictions candidates"] = num_truths - 1 - backwards
    fits = np.take_along_axis(iou, candidates, axis=-1)[..., None] >= thresholds
    problems = np.arange(num_problems)
    taken = np.zeros((num_problems, num_truths, len(thresholds)), dtype=bool)
    hit = np.zeros((num_problems, num_predictions, len(thresholds)), dtype=bool)
    for prediction in range(num_predictions):
        for choice in range(num_candidates):
            moment = candidates[:, prediction, choice]
            takes = fits[:, prediction, choice] & ~taken[problems, moment] & ~hit[:, prediction]
            hit[:, prediction] |= takes
            taken[problems, moment] |= takes
    return hit


def _average_precision(
    true_positive: Bool[np.ndarray, "problems predictions thresholds"],
    num_truths: Int64[np.ndarray, " problems"],
) -> Float64[np.ndarray, "problems thresholds"]:
    """Area under the precision-recall curve, precision made non-increasing (all points)."""
    num_hits = np.cumsum(true_positive, axis=1)
    ranks = np.arange(1, true_positive.shape[1] + 1)[:, None]
    precision = np.maximum.accumulate((num_hits / ranks)[:, ::-1], axis=1)[:, ::-1]
    recall = num_hits / num_truths[:, None, None]
    return (np.diff(recall, axis=1, prepend=0) * precision).sum(axis=1)
