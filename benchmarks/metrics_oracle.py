"""The evaluation protocol written for a reader, query by query: the tests' oracle.

It states the rules as plainly as numpy allows, and is the serial peer that benchmarks/metrics.py
times. Only what the moments and highlights tables need: `evaluate_serially` returns the mean of
every metric as a fraction, unrounded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

AP_THRESHOLDS = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
RANGES = {"full": (-np.inf, np.inf), "long": (30, np.inf), "middle": (10, 30), "short": (0, 10)}
LEVELS = {"Fair": 2, "Good": 3, "VeryGood": 4}


def evaluate_serially(
    moments: Sequence[Array],
    truths: Sequence[Array],
    saliencies: Sequence[Array],
    labels: Sequence[Array],
) -> dict[str, float]:
    """Score every query in turn and average, as the official evaluators do."""
    values: dict[str, list[float]] = defaultdict(list)
    for predicted, truth in zip(moments, truths, strict=True):
        lengths = truth[:, 1] - truth[:, 0]
        for name, (low, high) in RANGES.items():
            relevant = truth[(low < lengths) & (lengths <= high)]
            if not len(relevant):
                continue
            iou = pairwise_iou(predicted, relevant)
            values[f"{name}/mIoU"].append(float(iou[0].max()))
            for threshold in (0.3, 0.5, 0.7):
                values[f"{name}/R1@{threshold}"].append(float(iou[0].max() >= threshold))
                values[f"{name}/R5@{threshold}"].append(float(iou[:5].max() >= threshold))
            for threshold in AP_THRESHOLDS:
                precision = average_precision(predicted, iou, threshold)
                values[f"{name}/mAP@{threshold}"].append(precision)
    for saliency, label in zip(saliencies, labels, strict=True):
        for name, lowest in LEVELS.items():
            positive = label >= lowest
            best = int(np.argmax(saliency))
            hit = best < len(label) and bool(positive[best].any())
            values[f"{name}/Hit1"].append(float(hit))
            fitted = np.zeros(len(label))
            fitted[: len(saliency)] = saliency[: len(label)]
            for annotator in positive.T:
                values[f"{name}/mAP"].append(highlight_precision(fitted, annotator))
    return {name: float(np.mean(column)) for name, column in values.items()}


def pairwise_iou(predicted: Array, truth: Array) -> Array:
    """Intersection over union of [start, end] pairs, 0 without overlap."""
    start = np.maximum(predicted[:, None, 0], truth[None, :, 0])
    end = np.minimum(predicted[:, None, 1], truth[None, :, 1])
    overlap = np.maximum(end - start, 0)
    lengths = (predicted[:, 1] - predicted[:, 0])[:, None] + (truth[:, 1] - truth[:, 0])[None]
    return np.where(overlap > 0, overlap / np.maximum(lengths - overlap, 1e-300), 0)


def average_precision(predicted: Array, iou: Array, threshold: float) -> float:
    """Match the first ten predictions greedily, best score first, and integrate precision."""
    order = np.argsort(-predicted[:10, 2], kind="stable")
    taken: set[int] = set()
    hits = []
    for prediction in order:
        hit = False
        for moment in np.argsort(iou[prediction], kind="stable")[::-1]:
            if iou[prediction, moment] < threshold:
                break
            if int(moment) not in taken:
                taken.add(int(moment))
                hit = True
                break
        hits.append(hit)
    num_hits = np.cumsum(hits)
    precision = num_hits / np.arange(1, len(hits) + 1)
    recall = num_hits / iou.shape[1]
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * envelope))


def highlight_precision(saliency: Array, positive: NDArray[np.bool_]) -> float:
    """Mean interpolated precision over the score levels at which a highlight comes in."""
    order = np.argsort(-saliency, kind="stable")
    hits = np.cumsum(positive[order])
    ends = np.append(np.flatnonzero(np.diff(saliency[order])), len(saliency) - 1)
    precision = hits[ends] / (ends + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    brings = np.diff(hits[ends], prepend=0) > 0
    return float(envelope[brings].mean()) if brings.any() else 0.0
