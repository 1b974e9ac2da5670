"""`r2t submission`: check predictions and pack them for the QVHighlights server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from r2t.cli.shared import (
    SOME_FAILED,
    Annotations,
    Json,
    Strict,
    examples,
    handle_errors,
    note,
    print_json,
    read_annotation_options,
    say,
)
from r2t.store import datasets
from r2t.store.errors import AnnotationError, ConfigError
from r2t.store.wording import counted
from r2t.train import metrics


@examples(
    "r2t submission mine.zip --val val.jsonl --annotations highlight_val_release.jsonl",
    "r2t submission mine.zip --val val.jsonl --test test.jsonl --annotations "
    "highlight_val_release.jsonl --annotations highlight_test_release.jsonl",
)
def submission(
    out: Annotated[Path, typer.Argument(help="Zip file to make.")],
    annotations: Annotations,
    val: Annotated[Path | None, typer.Option(help="Predictions for the val split.")] = None,
    test: Annotated[Path | None, typer.Option(help="Predictions for the test split.")] = None,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Check predictions against annotations and pack them for the QVHighlights server.

    What the official evaluator would refuse is a problem: each is named, and nothing is written.
    What it accepts but looks wrong is a warning or, with --strict, a problem.
    """
    with handle_errors():
        truth = read_annotation_options(annotations)
        splits: dict[Literal["val", "test"], list[metrics.SubmissionRow]] = {}
        problems: list[str] = []
        warnings: list[str] = []
        given: dict[Literal["val", "test"], Path | None] = {"val": val, "test": test}
        for split, path in given.items():
            if path is None:
                continue
            expected = [annotation for annotation in truth if annotation.split == split]
            if not expected:
                raise AnnotationError(
                    f"--annotations has no query of split {split}, which {path} answers"
                )
            splits[split] = metrics.read_submission(path)
            found = metrics.check_submission(
                splits[split], expected, clip_seconds=datasets.LABELLED_CLIP_SECONDS
            )
            problems += [f"{path}: {fault}" for fault in found.errors]
            (problems if strict else warnings).extend(f"{path}: {it}" for it in found.warnings)
        if not splits:
            raise ConfigError("give the predictions to pack: --val FILE, --test FILE or both")
        if not problems:
            metrics.write_server_archive(out, splits)
        counts = {split: len(rows) for split, rows in splits.items()}
        if json:
            outcome = {"written": not problems, "queries": counts}
            print_json({**outcome, "problems": problems, "warnings": warnings})
        _tell(problems, warnings)
        if not (json or problems):
            packed = ", ".join(
                f"{counted(count, 'query')} of {split}" for split, count in counts.items()
            )
            say(f"packed: {out}: {packed}")
    if problems:
        raise typer.Exit(SOME_FAILED)


def _tell(problems: Sequence[str], warnings: Sequence[str]) -> None:
    for problem in problems:
        note(problem, style="red")
    for warning in warnings:
        note(f"warning: {warning}", style="yellow")
