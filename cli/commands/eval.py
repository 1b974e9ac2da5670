"""`r2t eval`: score a model on a store, or predictions against annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from r2t.cli.answers import (
    Answers,
    Asking,
    CorpusQuestion,
    ask_model,
    corpus_table,
    read_answers,
    score_corpus_of_store,
    score_table,
)
from r2t.cli.shared import (
    Device,
    Domain,
    Json,
    OptionalCheckpoint,
    OptionalSplit,
    QueryBatch,
    RelevantFile,
    Seed,
    Strict,
    Windows,
    answers,
    examples,
    handle_errors,
    lay_out_scores,
    note,
    one_of,
    print_json,
    write_json,
)
from r2t.store import share
from r2t.store.errors import ConfigError
from r2t.store.files import require_writable
from r2t.train import grounding, metrics
from r2t.train.choices import Evaluator

RESAMPLES = 1000  # for the intervals of --corpus, where --bootstrap says nothing
SERVER_SPLITS = ("val", "test")  # what the QVHighlights server takes


@examples(
    "r2t eval --store feats.zarr --checkpoint runs/x --split val",
    "r2t eval --store feats.zarr --split val",
    "r2t eval --store feats.zarr --split val --corpus --num-queries 500",
    "r2t eval --predictions mine.jsonl --annotations highlight_val_release.jsonl",
    "r2t eval --predictions mine.jsonl --annotations val.jsonl --bootstrap 1000 --json",
    "r2t eval --predictions dog.jsonl --annotations youtube_anno.json --dataset youtube "
    "--domain dog",
)
def evaluate(  # noqa: PLR0913 - a parameter for each option
    store: Annotated[
        str | None, typer.Option(help="Feature store with the queries to answer.")
    ] = None,
    checkpoint: OptionalCheckpoint = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Instead of a model: its predictions, as JSON lines.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Instead of a store: an annotation file of any format.")
    ] = None,
    split: OptionalSplit = None,
    domain: Domain = None,
    dataset: Annotated[
        Evaluator | None,
        typer.Option(
            help="How to score; qvhighlights scores moments and saliency. By default as the run "
            "was trained for; predictions as qvhighlights.",
            **one_of(Evaluator),
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With a store: folder for the results; by default in the run's, without a run "
            "none."
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option(help="Write the scores into this file, as JSON.")
    ] = None,
    json: Json = False,
    bootstrap: Annotated[
        int,
        typer.Option(
            min=0, help="How often to resample the videos for 95 % intervals; 0: no intervals."
        ),
    ] = 0,
    strict: Strict = False,
    strict_official: Annotated[
        bool,
        typer.Option(
            "--strict-official",
            help="Score as the official evaluators do, including their defects.",
        ),
    ] = False,
    corpus: Annotated[
        bool,
        typer.Option(
            "--corpus",
            help="Ask every video of the split each of its sentences, and score how well videos "
            "and moments are found among all of them.",
        ),
    ] = False,
    relevant: RelevantFile = None,
    num_queries: Annotated[
        int | None,
        typer.Option(min=1, help="With --corpus: ask so many sentences, drawn by --seed."),
    ] = None,
    seed: Seed = 0,
    batch_size: QueryBatch = 16,
    windows: Windows = "auto",
    device: Device = "auto",
) -> None:
    """Score a trained model on a store, or predictions against annotations.

    With --store and no --checkpoint the frozen CLIP is scored, which was not trained for moments.
    With --corpus a video counts as found if the sentence is annotated for it, or --relevant says
    that it fits.

    By default a store and a highlight dataset are scored on their val split, other files on all.
    """
    with handle_errors():
        given = (store, checkpoint, predictions, annotations)
        asking = Asking(batch_size, windows, device)
        question = CorpusQuestion(split or "val", domain, relevant, num_queries, seed)
        _check_options(question, json_file, corpus=corpus)
        if corpus:
            if out is not None or dataset is not None or strict or strict_official:
                raise ConfigError(
                    "--out, --dataset, --strict and --strict-official belong to answers about a "
                    "sentence's own video: leave them out with --corpus; --json-file FILE writes "
                    "its scores"
                )
            _score_corpus(given, question, asking, bootstrap, json_file, json=json)
            return
        folder = None
        if predictions is not None and annotations is not None and given.count(None) == 2:
            answered = read_answers(predictions, annotations, dataset, split, domain, strict=strict)
        elif store is not None and predictions is None and annotations is None:
            split = split or "val"
            folder = out or _own_folder(checkpoint, split, domain)
            answered = _answered(store, checkpoint, dataset, split, domain, asking, folder)
            if not answered.labelled:
                note("the queries have no labels to score with")
                return
        else:
            raise ConfigError(
                "give either --store, with --checkpoint or without, or --predictions and "
                "--annotations"
            )
        scores = score_table(answered, num_resamples=bootstrap, strict_official=strict_official)
        if folder is not None:
            write_json(scores, folder / "metrics.json")
        if json_file is not None:
            write_json(scores, json_file)
        if json:
            print_json(scores)
        else:
            for table in lay_out_scores(scores):
                answers().print(table)


def _score_corpus(
    given: tuple[str | None, Path | None, Path | None, Path | None],
    question: CorpusQuestion,
    asking: Asking,
    bootstrap: int,
    json_file: Path | None,
    *,
    json: bool,
) -> None:
    """Score how well videos are found, and show it; there are always intervals."""
    store, checkpoint, *files = given
    if store is None or any(files):
        raise ConfigError(
            "--corpus asks the videos of a store: give --store, with --checkpoint or without"
        )
    found = score_corpus_of_store(store, checkpoint, question, asking, bootstrap or RESAMPLES)
    if json_file is not None:
        write_json(found, json_file)
    if json:
        print_json(found)
    else:
        answers().print(corpus_table(found))


def _check_options(question: CorpusQuestion, json_file: Path | None, *, corpus: bool) -> None:
    if json_file is not None:
        require_writable(json_file.parent)
    if not corpus and (question.relevant is not None or question.num_queries is not None):
        raise ConfigError("--relevant and --num-queries belong to --corpus: give it as well")


def _own_folder(checkpoint: Path | None, split: str, domain: str | None) -> Path | None:
    """Return where in a run's folder results go; None if there is none, or it is a hub's copy."""
    if checkpoint is not None and share.is_cached(checkpoint):
        note("the run is on a hub, so no files are written: --out FOLDER writes them")
        return None
    return checkpoint and checkpoint / "-".join(filter(None, ("eval", split, domain)))


def _answered(
    store: str,
    run: Path | None,
    dataset: str | None,
    split: str,
    domain: str | None,
    asking: Asking,
    folder: Path | None,
) -> Answers:
    """Answer the queries of a store, and save the answers if there is a folder for them."""
    if folder is not None:
        require_writable(folder)
    answered = ask_model(store, run, dataset, split, domain, asking)
    if run is None:
        note(f"answered by {grounding.FROZEN_LABEL}", style="yellow")
    if folder is not None:
        save_answers(answered, folder, split)
        note(f"predictions: {folder}")
    return answered


def save_answers(answered: Answers, folder: Path, split: str) -> None:
    """Write predictions.jsonl, and submission.zip where there is a server to take it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make {folder}: {error.strerror or error}") from error
    metrics.write_submission(folder / "predictions.jsonl", answered.rows)
    if answered.evaluator == "qvhighlights" and split in SERVER_SPLITS:
        metrics.write_server_archive(folder / "submission.zip", {cast("Any", split): answered.rows})
