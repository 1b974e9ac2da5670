"""Predictions that people bring: read, checked, and what is wrong with them said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from r2t.cli.shared.ui import note
from r2t.store.errors import AnnotationError

if TYPE_CHECKING:
    from r2t.store.annotations import Annotation
    from r2t.train.choices import Evaluator
    from r2t.train.metrics import SubmissionRow

Strict = Annotated[
    bool,
    typer.Option("--strict", help="Refuse predictions that would be taken with a warning."),
]
_SHOWN = {"MR-full-R1@0.5": "R1@0.5", "MR-full-R1@0.7": "R1@0.7", "MR-full-mAP": "mAP"}


def read_predictions(
    path: Path, truth: Sequence[Annotation], evaluator: Evaluator, *, strict: bool
) -> list[SubmissionRow]:
    """Read predictions and warn of what looks wrong in them; with `strict`, raise it instead."""
    from r2t.train.metrics import check_submission, read_submission

    rows = read_submission(path)
    found = check_submission(rows, truth)
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
    rows: Sequence[SubmissionRow], truth: Sequence[Annotation], evaluator: Evaluator
) -> str:
    """Say what the scores would be if the moments were listed best first; empty if the same."""
    from r2t.train.metrics import evaluate_predictions, sorted_by_score

    as_listed, by_score = (
        cast("dict[str, Any]", evaluate_predictions(each, truth, evaluator=evaluator)["brief"])
        for each in (rows, sorted_by_score(rows))
    )
    differing = [
        f"{name} {by_score[key]}, not {as_listed[key]}"
        for key, name in _SHOWN.items()
        if by_score.get(key) != as_listed.get(key)
    ]
    return f"listed best first, they would have {', '.join(differing)}" if differing else ""
