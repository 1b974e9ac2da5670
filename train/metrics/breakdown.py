"""Where a model is good: its scores by the length of the moments and of the sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64

from r2t.store.annotations import Annotation
from r2t.train.metrics.bootstrap import Interval, bootstrap_intervals
from r2t.train.metrics.evaluators import QueryScores, official_table
from r2t.train.metrics.moments import LENGTH_RANGES, MomentValues

Kind = Literal["all", "moment length", "sentence length"]
COLUMNS = ("R1@0.5", "R1@0.7", "mAP", "mIoU")

_WORDS = ((0, 5), (6, 10), (11, 15), (16, None))
_RANGE_NAMES = {
    "short": "with moments up to 10 s",
    "middle": "with moments of 10 to 30 s",
    "long": "with moments over 30 s",
}


@dataclass(frozen=True)
class Group:
    """Some of the queries: their number, and in percent what they scored, by column.

    What the official table has too is rounded as it is there.
    """

    name: str
    kind: Kind
    num_queries: int
    intervals: Mapping[str, Interval]


def score_breakdown(
    scores: QueryScores,
    annotations: Sequence[Annotation],
    *,
    num_samples: int = 1000,
    seed: int = 0,
) -> list[Group]:
    """Score all queries, those with moments of each length, and those with so many words.

    A query with moments of several lengths counts in each of them, with those moments alone, as in
    the official tables. Without moments there are no groups, and none without queries.
    """
    if scores.moments is None:
        return []
    words = np.array([len(annotation.query.split()) for annotation in annotations])
    full = _columns(scores.moments, "full")

    official = official_table(scores)
    found: list[tuple[str, Kind, Mapping[str, np.ndarray], Mapping[str, float]]] = [
        ("all queries", "all", full, _official_columns(official["full"]))
    ]
    for name, title in _RANGE_NAMES.items():
        shown = _official_columns(official[name])
        found.append((title, "moment length", _columns(scores.moments, name), shown))
    for low, high in _WORDS:
        inside = (words >= low) & (words <= (high or np.inf))
        found.append((_words_name(low, high), "sentence length", _only(full, inside), {}))
    groups: list[Group] = []
    for name, kind, values, shown in found:
        if counted := int(np.isfinite(values["mIoU"]).sum()):
            intervals = bootstrap_intervals(
                values, scores.video_ids, num_samples=num_samples, seed=seed
            )
            groups.append(Group(name, kind, counted, _with_values(intervals, shown)))
    return groups


def official_intervals(
    scores: QueryScores, *, num_samples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Return the 95 % interval of each metric, with its value as the official table has it."""
    intervals = bootstrap_intervals(
        scores.metrics(), scores.video_ids, num_samples=num_samples, seed=seed
    )
    return _with_values(intervals, official_table(scores)["brief"])


def _with_values(
    intervals: Mapping[str, Interval], shown: Mapping[str, float]
) -> dict[str, Interval]:
    return {
        name: replace(interval, value=shown.get(name, interval.value))
        for name, interval in intervals.items()
    }


def _official_columns(table: Mapping[str, Any] | None) -> dict[str, float]:
    if table is None:
        return {}
    values = table["MR-R1"]["0.5"], table["MR-R1"]["0.7"], table["MR-mAP"]["average"]
    return dict(zip(COLUMNS, (*values, table["MR-mIoU"]), strict=True))


def _words_name(low: int, high: int | None) -> str:
    if high is None:
        return f"{low} words or more"
    return f"{low} to {high} words" if low else f"up to {high} words"


def _columns(values: MomentValues, name: str) -> dict[str, Float64[np.ndarray, " queries"]]:
    index = list(LENGTH_RANGES).index(name)
    iou = values.first_iou[index]
    counted = np.isfinite(iou)
    recalls = [np.where(counted, 100.0 * (iou >= bar), np.nan) for bar in (0.5, 0.7)]
    precision = 100 * values.average_precision[index].mean(axis=1)
    return dict(zip(COLUMNS, (*recalls, precision, 100 * iou), strict=True))


def _only(
    values: Mapping[str, Float64[np.ndarray, " queries"]], inside: Bool[np.ndarray, " queries"]
) -> dict[str, Float64[np.ndarray, " queries"]]:
    return {name: np.where(inside, column, np.nan) for name, column in values.items()}
