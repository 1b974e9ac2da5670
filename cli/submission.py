"""`r2t submission`: check predictions and pack them for the QVHighlights server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from r2t.cli.inputs import read_annotation_options
from r2t.cli.shared.apps import examples
from r2t.cli.shared.options import Annotations, Json
from r2t.cli.ui import SOME_FAILED, handle_errors, note, print_json
from r2t.store.errors import AnnotationError, ConfigError

if TYPE_CHECKING:
    from r2t.train.submission import SubmissionRow

EXAMPLES = examples(
    "r2t submission mine.zip --val val.jsonl --annotations highlight_val_release.jsonl",
    "r2t submission mine.zip --val val.jsonl --test test.jsonl --annotations "
    "highlight_val_release.jsonl --annotations highlight_test_release.jsonl",
)


def submission(
    out: Annotated[Path, typer.Argument(help="Zip file to make.")],
    annotations: Annotations,
    val: Annotated[Path | None, typer.Option(help="Predictions for the val split.")] = None,
    test: Annotated[Path | None, typer.Option(help="Predictions for the test split.")] = None,
    json: Json = False,
) -> None:
    """Check predictions against annotations and pack them for the QVHighlights server.

    Nothing is written if anything is wrong; every problem is named.
    """
    with handle_errors():
        from r2t.train.submission import check_submission, read_submission, write_server_archive

        truth = read_annotation_options(annotations)
        splits: dict[Literal["val", "test"], list[SubmissionRow]] = {}
        problems: list[str] = []
        given: dict[Literal["val", "test"], Path | None] = {"val": val, "test": test}
        for split, path in given.items():
            if path is None:
                continue
            expected = [annotation for annotation in truth if annotation.split == split]
            if not expected:
                raise AnnotationError(f"--annotations has no query of split {split}, as {path} is")
            splits[split] = read_submission(path)
            problems += [f"{path}: {fault}" for fault in check_submission(splits[split], expected)]
        if not splits:
            raise ConfigError("give the predictions to pack: --val FILE, --test FILE or both")
        for problem in problems:
            note(problem, style="red")
        if not problems:
            write_server_archive(out, splits)
        counts = {split: len(rows) for split, rows in splits.items()}
        if json:
            print_json({"written": not problems, "queries": counts, "problems": problems})
        elif not problems:
            packed = ", ".join(f"{count} queries of {split}" for split, count in counts.items())
            note(f"packed: {out}: {packed}")
    if problems:
        raise typer.Exit(SOME_FAILED)
