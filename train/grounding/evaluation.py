"""From groundings to scores: how good answers to annotated queries are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from r2t.store.annotations import Annotation
from r2t.store.errors import AnnotationError
from r2t.store.wording import counted_of
from r2t.train.choices import Evaluator
from r2t.train.metrics import SubmissionRow, evaluate_predictions
from r2t.train.model import Grounding


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model.

    `metrics` is the official table; `summary` has its leading figures by name, without those that
    are undefined; `score` chooses the best checkpoint: mAP over moments, or highlight mAP.
    """

    metrics: dict[str, Any]
    summary: Mapping[str, float]
    score: float
    rows: list[SubmissionRow]


def evaluate_groundings(
    groundings: Mapping[str, Grounding], annotations: Sequence[Annotation], evaluator: Evaluator
) -> Evaluation:
    """Score groundings, given by query id."""
    unlabelled = [a for a in annotations if not len(a.moments) and a.saliency is None]
    if unlabelled:
        raise AnnotationError(
            "neither moments nor saliency to compare with: in "
            f"{counted_of(len(unlabelled), len(annotations), 'query')}, such as "
            f"{unlabelled[0].name}: evaluate a labelled split"
        )
    rows = submission_rows(groundings, annotations)
    metrics = evaluate_predictions(rows, annotations, evaluator=evaluator)
    figures = metrics.get("brief", {"mAP": metrics.get("mAP")})
    summary = {name: float(value) for name, value in figures.items() if value is not None}
    leading = next(
        name for name in ("MR-full-mAP", "mAP", "HL-min-VeryGood-mAP") if name in summary
    )
    return Evaluation(metrics, summary, summary[leading], rows)


def submission_rows(
    groundings: Mapping[str, Grounding], annotations: Sequence[Annotation]
) -> list[SubmissionRow]:
    """Write groundings as the benchmarks exchange them; saliency on the annotations' own clips."""
    rows: list[SubmissionRow] = []
    for annotation in annotations:
        grounding = groundings[annotation.query_id]
        saliency = grounding.saliency.astype(np.float64)
        if annotation.saliency is not None:
            saliency = clip_saliency(grounding, annotation.saliency.clip_seconds)
        rows.append(
            SubmissionRow(
                query_id=annotation.query_id,
                video_id=annotation.video_id,
                query=annotation.query,
                moments=grounding.moments if len(grounding.moments) else None,
                saliency=saliency,
            )
        )
    return rows


def clip_saliency(grounding: Grounding, clip_seconds: float) -> Float64[np.ndarray, " clips"]:
    """Average a saliency over the frames whose slot centres lie in each clip.

    With a frame for each clip, as the benchmarks have it, these are the frames' own scores. A clip
    without a frame takes that of the frame nearest to its centre.
    """
    scores = grounding.saliency.astype(np.float64)
    centres = (np.arange(len(scores)) + 0.5) / grounding.frame_rate_fps
    clips = np.floor(centres / clip_seconds).astype(np.int64)
    num_clips = int(clips[-1]) + 1
    counts = np.bincount(clips, minlength=num_clips)
    sums = np.bincount(clips, weights=scores, minlength=num_clips)
    middles = (np.arange(num_clips) + 0.5) * clip_seconds
    nearest = np.abs(middles[:, None] - centres).argmin(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), scores[nearest])
