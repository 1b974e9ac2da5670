"""The benchmarks' evaluators: predictions and annotations in, the official table of scores out.

Equal to R²-Tuning's own evaluation wherever that is defined, to the last printed digit. Where
its answer is an accident of the code, ours differs, unless `strict_official` asks for it:

- two moments without length that make the IoU 0/0: officially a hit in mAP, here no overlap;
- a range of lengths that no annotation falls in: officially the scores of all, here None.

Predictions that crash it (none for a query, NaN) and duplicates that it overlooks are always
AnnotationErrors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from r2t.store.annotations import Annotation
from r2t.store.errors import AnnotationError
from r2t.store.wording import counted, counted_of
from r2t.train.choices import Evaluator
from r2t.train.metrics.highlights import (
    HIGHLIGHT_LEVELS,
    HighlightValues,
    highlight_values,
    tvsum_average_precision,
    youtube_average_precision,
)
from r2t.train.metrics.moments import (
    AP_THRESHOLDS,
    LENGTH_RANGES,
    RECALL_THRESHOLDS,
    MomentValues,
    moment_values,
)
from r2t.train.metrics.submission import SubmissionRow

_BRIEF_RECALL = (0.3, 0.5, 0.7)
_BRIEF_AP = (0.5, 0.75)
_EXAMPLES = 5


@dataclass(frozen=True, eq=False)
class QueryScores:
    """What every single query scored: the means are the benchmark, the spread is for bootstrap.

    The order is that of the annotations.
    """

    query_ids: tuple[str, ...]
    video_ids: tuple[str, ...]
    moments: MomentValues | None
    highlights: HighlightValues | None

    def metrics(self) -> dict[str, Float64[np.ndarray, " queries"]]:
        """Per-query values in percent, under the names of the table's `brief`.

        NaN where a query does not count, such as in a range that none of its moments falls in.
        """
        values: dict[str, Float64[np.ndarray, " queries"]] = {}
        if self.moments is not None:
            for index, name in enumerate(LENGTH_RANGES):
                values |= _brief_moments(self.moments, index, name)
        if self.highlights is not None:
            for index, level in enumerate(HIGHLIGHT_LEVELS):
                precision = self.highlights.average_precision[:, index]
                values[f"HL-min-{level}-mAP"] = 100 * precision
                values[f"HL-min-{level}-Hit1"] = 100 * self.highlights.hit[:, index]
        return values


def evaluate_predictions(
    submission: Sequence[SubmissionRow],
    annotations: Sequence[Annotation],
    *,
    evaluator: Evaluator = "qvhighlights",
    strict_official: bool = False,
) -> dict[str, Any]:
    """Score predictions; both must be of the same queries, in any order.

    "qvhighlights" scores moments and saliency, whichever are predicted; "moments" only the former.
    Their tables are in percent with two decimals: `brief`, `HL-min-*` per level, then per range
    MR-mIoU, MR-mAP, MR-R1 and MR-R5. "youtube" and "tvsum" give `mAP` as a fraction of 1 with five
    decimals and `num_videos`; pass them one domain.
    """
    if evaluator == "youtube" or evaluator == "tvsum":
        return _evaluate_videos(submission, annotations, evaluator)
    scores = score_queries(
        submission, annotations, evaluator=evaluator, strict_official=strict_official
    )
    return official_table(scores, strict_official=strict_official)


def score_queries(
    submission: Sequence[SubmissionRow],
    annotations: Sequence[Annotation],
    *,
    evaluator: Literal["qvhighlights", "moments"] = "qvhighlights",
    strict_official: bool = False,
) -> QueryScores:
    """Score every query by itself; `official_table` makes the table of the means."""
    rows = _align(submission, annotations)
    moments = highlights = None
    if _predicted("moments", [row.moments is not None for row in rows]):
        moments = _score_moments(rows, annotations, strict_official)
    has_labels = any(annotation.saliency is not None for annotation in annotations)
    if (
        evaluator == "qvhighlights"
        and _predicted("saliency", [row.saliency is not None for row in rows])
        and has_labels
    ):
        saliencies, labels = _saliency(rows, annotations)
        highlights = highlight_values(saliencies, labels)
    if moments is None and highlights is None:
        raise AnnotationError(
            f"nothing to score with the {evaluator} evaluator: the predictions have no "
            "moments, or only saliency for annotations without saliency"
        )
    return QueryScores(
        tuple(annotation.query_id for annotation in annotations),
        tuple(annotation.video_id for annotation in annotations),
        moments,
        highlights,
    )


def official_table(scores: QueryScores, *, strict_official: bool = False) -> dict[str, Any]:
    """Average per-query scores into the official table."""
    brief: dict[str, float | None] = {}
    levels: dict[str, Any] = {}
    ranges: dict[str, Any] = {}
    if scores.moments is not None:
        for index, name in enumerate(LENGTH_RANGES):
            counted = np.isfinite(scores.moments.first_iou[index])
            source = 0 if strict_official and not counted.any() else index
            names = _brief_moments(scores.moments, source, name)
            ranges[name] = _range_table(scores.moments, source)
            brief |= {key: _percent(values / 100) for key, values in names.items()}
            brief |= _brief_precision(name, ranges[name])
    if scores.highlights is not None:
        for index, level in enumerate(HIGHLIGHT_LEVELS):
            precision = _percent(scores.highlights.average_precision[:, index])
            hit = _percent(scores.highlights.hit[:, index])
            brief |= {f"HL-min-{level}-mAP": precision, f"HL-min-{level}-Hit1": hit}
            levels[f"HL-min-{level}"] = {"HL-mAP": precision, "HL-Hit1": hit}
    return {"brief": brief, **levels, **ranges}


def _brief_moments(
    values: MomentValues, index: int, name: str
) -> dict[str, Float64[np.ndarray, " queries"]]:
    """Per-query percentages of one range, as the brief table names and orders them."""
    counted = np.isfinite(values.first_iou[index])
    brief: dict[str, Float64[np.ndarray, " queries"]] = {}
    if name == "full":
        for key, iou in (("R1", values.first_iou[index]), ("R5", values.five_iou[index])):
            for threshold in _BRIEF_RECALL:
                hits = np.where(counted, iou >= threshold, np.nan)
                brief[f"MR-full-{key}@{threshold}"] = 100 * hits
    precision = values.average_precision[index]
    brief[f"MR-{name}-mAP"] = 100 * precision.mean(axis=1)
    if name == "full":
        for threshold in _BRIEF_AP:
            column = precision[:, AP_THRESHOLDS.index(threshold)]
            brief[f"MR-full-mAP@{threshold}"] = 100 * column
    brief[f"MR-{name}-mIoU"] = 100 * values.first_iou[index]
    return brief


def _brief_precision(name: str, table: dict[str, Any] | None) -> dict[str, float]:
    """Repeat average precisions as a range has them: a sum in another order may round otherwise."""
    if table is None:
        return {}
    found = {f"MR-{name}-mAP": table["MR-mAP"]["average"]}
    if name == "full":
        found |= {f"MR-full-mAP@{each}": table["MR-mAP"][str(each)] for each in _BRIEF_AP}
    return found


def _range_table(values: MomentValues, index: int) -> dict[str, Any] | None:
    counted = np.isfinite(values.first_iou[index])
    if not counted.any():
        return None
    precision = values.average_precision[index][counted].mean(axis=0)
    recalls = {
        key: {str(t): _percent((iou[index][counted] >= t).astype(np.float64)) for t in thresholds}
        for key, iou, thresholds in (
            ("MR-R1", values.first_iou, RECALL_THRESHOLDS),
            ("MR-R5", values.five_iou, RECALL_THRESHOLDS),
        )
    }
    by_threshold = zip(AP_THRESHOLDS, precision, strict=True)
    return {
        "MR-mIoU": _percent(values.first_iou[index]),
        "MR-mAP": {str(t): _percent(np.array([value])) for t, value in by_threshold}
        | {"average": _percent(precision)},
        **recalls,
    }


def _percent(values: Float64[np.ndarray, " values"]) -> float | None:
    """Mean of what is not NaN, in percent, rounded as the official tables are."""
    counted = values[~np.isnan(values)]
    return float(f"{100 * counted.mean():.2f}") if len(counted) else None


def _evaluate_videos(
    submission: Sequence[SubmissionRow],
    annotations: Sequence[Annotation],
    evaluator: Literal["youtube", "tvsum"],
) -> dict[str, Any]:
    rows = _align(submission, annotations)
    _predicted("saliency", [row.saliency is not None for row in rows], required=True)
    saliencies, labels = _saliency(rows, annotations)
    if evaluator == "youtube":
        for row, label in zip(rows, labels, strict=True):
            if row.saliency is not None and len(row.saliency) != len(label):
                raise AnnotationError(
                    f"video {row.video_id!r}: {len(row.saliency)} saliency scores for "
                    f"{len(label)} clips; YouTube Highlights needs one per clip: do the labels "
                    "belong to another cut of the video?"
                )
        mean = youtube_average_precision(saliencies, labels).mean()
    else:
        mean = tvsum_average_precision(saliencies, labels).mean(axis=0).mean()
    return {"mAP": round(float(mean), 5), "num_videos": len(rows)}


def _align(
    submission: Sequence[SubmissionRow], annotations: Sequence[Annotation]
) -> list[SubmissionRow]:
    """Return the predictions in the order of the annotations."""
    if not annotations:
        raise AnnotationError("no annotations to score predictions against")
    by_query = {row.query_id: row for row in submission}
    rows = (*submission, *annotations)
    expected = {annotation.query_id for annotation in annotations}
    for what, ids in (
        ("predicted", [row.query_id for row in submission]),
        ("annotated", [annotation.query_id for annotation in annotations]),
    ):
        if len(set(ids)) < len(ids):
            twice = [query_id for query_id, count in Counter(ids).items() if count > 1]
            raise AnnotationError(f"{what} more than once: {_examples(twice, rows)}")
    missing, unknown = expected - by_query.keys(), by_query.keys() - expected
    if missing or unknown:
        raise AnnotationError(
            f"predictions and annotations are of different queries: {len(missing)} without "
            f"prediction ({_examples(sorted(missing), rows)}), {len(unknown)} unknown "
            f"({_examples(sorted(unknown), rows)}); is this the right split?"
        )
    return [by_query[annotation.query_id] for annotation in annotations]


def _predicted(what: str, present: list[bool], *, required: bool = False) -> bool:
    if any(present) != all(present) or (required and not all(present)):
        lacking = counted_of(present.count(False), len(present), "prediction")
        raise AnnotationError(f"without {what}: {lacking}")
    return all(present)


def _score_moments(
    rows: Sequence[SubmissionRow], annotations: Sequence[Annotation], strict_official: bool
) -> MomentValues:
    predictions = [row.moments for row in rows if row.moments is not None and len(row.moments)]
    if len(predictions) < len(rows):
        empty = [row.name for row in rows if row.moments is None or not len(row.moments)]
        raise AnnotationError(f"no moment is predicted for {_examples(empty)}")
    unlabelled = [a.name for a in annotations if not len(a.moments)]
    if unlabelled:
        raise AnnotationError(
            f"without moments: {counted(len(unlabelled), 'annotation')} ({_examples(unlabelled)}): "
            "there is no ground truth to score against"
        )
    truths = [annotation.moments for annotation in annotations]
    return moment_values(predictions, truths, strict_official=strict_official)


def _saliency(
    rows: Sequence[SubmissionRow], annotations: Sequence[Annotation]
) -> tuple[list[Any], list[Any]]:
    """Return predicted and annotated saliency, both complete and of one number of annotators."""
    labels = [a.saliency.scores for a in annotations if a.saliency is not None]
    saliencies = [row.saliency for row in rows if row.saliency is not None and len(row.saliency)]
    if len(labels) < len(annotations) or len(saliencies) < len(rows):
        raise AnnotationError(
            f"without saliency: {counted(len(annotations) - len(labels), 'annotation')} and "
            f"{counted(len(rows) - len(saliencies), 'prediction')}; give saliency for all of them "
            "or for none"
        )
    if len({label.shape[1] for label in labels}) > 1 or min(map(len, labels)) == 0:
        raise AnnotationError("saliency must be scored by the same number of annotators everywhere")
    return saliencies, labels


def _examples(queries: Sequence[str], rows: Iterable[SubmissionRow | Annotation] = ()) -> str:
    """Write the first of some queries, given by name, or by id where their rows are given."""
    names = {row.query_id: row.name for row in rows}
    shown = "; ".join(names.get(each, each) for each in queries[:_EXAMPLES]) or "none"
    return f"{shown}; …" if len(queries) > _EXAMPLES else shown
