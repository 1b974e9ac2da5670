"""Predictions that people bring: read, checked, and what is wrong with them said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from r2t.cli.shared.ui import note
from r2t.store.annotations import Annotation
from r2t.store.errors import AnnotationError
from r2t.train import metrics
from r2t.train.choices import Evaluator

_SHOWN = {"MR-full-R1@0.5": "R1@0.5", "MR-full-R1@0.7": "R1@0.7", "MR-full-mAP": "mAP"}


def read_predictions(
    path: Path, truth: Sequence[Annotation], evaluator: Evaluator, *, strict: bool
) -> list[metrics.SubmissionRow]:
    """Read predictions and warn of what looks wrong in them; with `strict`, raise it instead."""
    rows = metrics.read_submission(path)
    found = metrics.check_submission(rows, truth)
    if strict and found.warnings:
        raise AnnotationError(f"{path}: {'; '.join(found.warnings)}")
    for warning in found.warnings:
        note(f"warning: {path}: {warning}", style="yellow")
    if found.unsorted and not found.errors and any(len(row.moments) for row in truth):
        effect = _effect_of_order(rows, truth, evaluator)
        if effect:
            note(f"warning: {path}: {effect}", style="yellow")
    return rows


def _effect_of_order(
    rows: Sequence[metrics.SubmissionRow], truth: Sequence[Annotation], evaluator: Evaluator
) -> str:
    """Say what the scores would be if the moments were listed best first; empty if the same."""
    as_listed, by_score = (
        cast(
            "dict[str, Any]",
            metrics.evaluate_predictions(each, truth, evaluator=evaluator)["brief"],
        )
        for each in (rows, metrics.sorted_by_score(rows))
    )
    differing = [
        f"{name} {by_score[key]}, not {as_listed[key]}"
        for key, name in _SHOWN.items()
        if by_score.get(key) != as_listed.get(key)
    ]
    return f"listed best first, they would have {', '.join(differing)}" if differing else ""
