"""`r2t eval`: score a model on a store, or predictions against annotations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from r2t.cli.shared import (
    Device,
    Domain,
    Json,
    OptionalCheckpoint,
    OptionalSplit,
    QueryBatch,
    Strict,
    Windows,
    answers,
    as_windows,
    examples,
    handle_errors,
    lay_out_scores,
    note,
    one_of,
    print_json,
    progress_bar,
    read_annotation_file,
    read_predictions,
    write_json,
)
from r2t.store.compatibility import require_compatible
from r2t.store.errors import AnnotationError, ConfigError
from r2t.store.files import require_writable
from r2t.store.wording import counted, counted_of
from r2t.train.choices import Evaluator

if TYPE_CHECKING:
    from r2t.store.annotations import Annotation
    from r2t.store.feature_store import FeatureStore
    from r2t.train.grounding import Grounder, WindowPlan
    from r2t.train.metrics import SubmissionRow
    from r2t.train.model import Grounding

HIGHLIGHTS_ONLY = ("youtube", "tvsum")
SERVER_SPLITS = ("val", "test")  # what the QVHighlights server takes


@dataclass(frozen=True, eq=False)
class Answers:
    """Predictions beside what they are scored against, and how."""

    rows: Sequence[SubmissionRow]
    truth: Sequence[Annotation]
    evaluator: Evaluator

    def with_labels(self) -> Answers:
        """Return the answers to queries that can be scored, and warn of the others, if any can."""
        from r2t.store.annotations import labelled

        if not self.labelled:
            return self
        truth = labelled(self.truth)
        left_out = {row.query_id for row in self.truth} - {row.query_id for row in truth}
        return replace(
            self, truth=truth, rows=[row for row in self.rows if row.query_id not in left_out]
        )

    @property
    def labelled(self) -> bool:
        """Whether anything is known to score with."""
        return any(len(row.moments) or row.saliency is not None for row in self.truth)


@dataclass(frozen=True)
class Asking:
    """How a store is asked: what `--batch-size`, `--windows` and `--device` say."""

    batch_size: int
    windows: str
    device: str


@dataclass(frozen=True, eq=False)
class AskedStore:
    """A model's groundings of annotated queries, by query id, and where both came from."""

    grounder: Grounder
    store: FeatureStore
    truth: Sequence[Annotation]
    groundings: Mapping[str, Grounding]


@examples(
    "r2t eval --store feats.zarr --checkpoint runs/x --split val",
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
            help="How to score: qvhighlights has moments and saliency. By default as the run "
            "was trained; predictions as qvhighlights.",
            **one_of(Evaluator),
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="With a store: folder for the results; by default in the run's."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option(help="Write the scores there, as JSON.")] = None,
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
            "--strict-official", help="Score as the official evaluators do, their defects too."
        ),
    ] = False,
    batch_size: QueryBatch = 16,
    windows: Windows = "auto",
    device: Device = "auto",
) -> None:
    """Score a trained model on a store, or predictions against annotations.

    Of a store and of highlight datasets the val split is scored by default, else every split.
    """
    with handle_errors():
        given = (store, checkpoint, predictions, annotations)
        folder = None
        if json_file is not None:
            require_writable(json_file.parent)
        if predictions is not None and annotations is not None and given.count(None) == 2:
            answered = read_answers(predictions, annotations, dataset, split, domain, strict=strict)
        elif store is not None and checkpoint is not None and given.count(None) == 2:
            split = split or "val"
            folder = out or checkpoint / "-".join(filter(None, ("eval", split, domain)))
            require_writable(folder)
            asking = Asking(batch_size, windows, device)
            answered = ask_model(store, checkpoint, dataset, split, domain, asking)
            save_answers(answered, folder, split)
            note(f"predictions: {folder}")
            if not answered.labelled:
                note("the queries have no labels to score with")
                return
        else:
            raise ConfigError(
                "give either --store and --checkpoint, or --predictions and --annotations"
            )
        scores = score(answered, num_resamples=bootstrap, strict_official=strict_official)
        if folder is not None:
            write_json(scores, folder / "metrics.json")
        if json_file is not None:
            write_json(scores, json_file)
        if json:
            print_json(scores)
        else:
            for table in lay_out_scores(scores):
                answers().print(table)


def read_answers(
    predictions: Path,
    annotations: Path,
    dataset: str | None,
    split: str | None,
    domain: str | None,
    *,
    strict: bool,
) -> Answers:
    """Read predictions and the annotations of a split and domain; warn of what looks wrong."""
    evaluator = cast("Evaluator", dataset or "qvhighlights")
    annotated = read_annotation_file(annotations, domain=domain)
    wanted = split or ("val" if evaluator in HIGHLIGHTS_ONLY else None)
    truth = [row for row in annotated if wanted in (None, row.split)]
    if not truth:
        offered = ", ".join(sorted({row.split for row in annotated}))
        raise AnnotationError(f"{annotations} has nothing of split {wanted!r}; it has {offered}")
    rows = read_predictions(predictions, truth, evaluator, strict=strict)
    return Answers(rows, truth, evaluator)


def ask_model(
    location: str,
    run: Path,
    dataset: str | None,
    split: str,
    domain: str | None,
    asking: Asking,
) -> Answers:
    """Answer the queries of a store's split with a trained model."""
    from r2t.train.grounding import submission_rows

    asked = ask_store(location, run, split, domain, asking)
    evaluator = cast("Evaluator", dataset or asked.grounder.config.evaluator)
    return Answers(submission_rows(asked.groundings, asked.truth), asked.truth, evaluator)


def ask_store(
    location: str, run: Path, split: str, domain: str | None, asking: Asking
) -> AskedStore:
    """Ground the queries of a store's split with a trained model, behind a progress bar."""
    from r2t.store.feature_store import FeatureStore
    from r2t.train.data import Reading
    from r2t.train.devices import pick_device
    from r2t.train.grounding import Grounder, StoredQueries, scoring_plan
    from r2t.train.training import evaluation_queries

    store = FeatureStore.open(location)
    grounder = Grounder.load(run, device=pick_device(asking.device))
    require_compatible(
        grounder.spec, store.spec, action=f"evaluate {run} on {location}", names=(run, location)
    )
    queries = evaluation_queries(store, split, domain, grounder.trained_on)
    plan = scoring_plan(grounder.config, grounder.trained_on, as_windows(asking.windows))
    reading = Reading(device=grounder.device)
    stored = StoredQueries(store, queries, plan, batch_size=asking.batch_size, reading=reading)
    truth = stored.annotations
    if not truth:
        offered = ", ".join(sorted(set(store.queries["split"]))) or "no queries at all"
        where = f" and domain {domain!r}" if domain else ""
        raise ConfigError(
            f"{location} has no query with features of split {split!r}{where}; it has {offered}"
        )
    note_long_videos(store, plan, {row.video_id for row in truth})
    done = 0
    with progress_bar("queries", len(truth)) as show_done:

        def on_queries(count: int) -> None:
            nonlocal done
            done += count
            show_done(done)

        groundings = stored.ground(grounder, on_queries=on_queries)
    return AskedStore(grounder, store, truth, groundings)


def note_long_videos(store: FeatureStore, plan: WindowPlan, video_ids: Collection[str]) -> None:
    """Say how many of the videos are not asked as one."""
    from r2t.train.grounding import long_videos

    if count := len(long_videos(store, plan).intersection(video_ids)):
        note(
            f"note: more than {plan.limit_frames} frames are in "
            f"{counted_of(count, len(video_ids), 'video')}, so these are asked in overlapping "
            f"windows of {plan.num_frames} and their answers are merged"
        )


def save_answers(answered: Answers, folder: Path, split: str) -> None:
    """Write predictions.jsonl, and submission.zip where there is a server to take it."""
    from r2t.train.metrics import write_server_archive, write_submission

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make {folder}: {error.strerror or error}") from error
    write_submission(folder / "predictions.jsonl", answered.rows)
    if answered.evaluator == "qvhighlights" and split in SERVER_SPLITS:
        write_server_archive(folder / "submission.zip", {cast("Any", split): answered.rows})


def score(
    answered: Answers, *, num_resamples: int = 0, strict_official: bool = False
) -> dict[str, Any]:
    """Return the official table; with resamples also `intervals`, per key of its `brief`.

    Highlight datasets are scored a domain at a time: of several, `domains` has each and `mAP` is
    their mean.
    """
    from r2t.train.metrics import bootstrap_intervals, official_table, score_queries

    answered = answered.with_labels()

    if answered.evaluator in HIGHLIGHTS_ONLY:
        if num_resamples:
            raise ConfigError(f"{answered.evaluator} has no intervals: leave --bootstrap out")
        return _score_domains(answered)
    scores = score_queries(
        answered.rows,
        answered.truth,
        evaluator=cast("Any", answered.evaluator),
        strict_official=strict_official,
    )
    table = official_table(scores, strict_official=strict_official)
    if num_resamples:
        intervals = bootstrap_intervals(
            scores.metrics(), scores.video_ids, num_samples=num_resamples
        )
        table["intervals"] = {
            name: [round(interval.low, 2), round(interval.high, 2)]
            for name, interval in intervals.items()
        }
    return table


def _score_domains(answered: Answers) -> dict[str, Any]:
    from r2t.train.metrics import evaluate_predictions

    domain_of = {annotation.query_id: annotation.domain for annotation in answered.truth}
    unknown = [row.query_id for row in answered.rows if row.query_id not in domain_of]
    if unknown:
        raise AnnotationError(
            f"{counted(len(unknown), 'prediction')} for none of the annotated videos, such as "
            f"{unknown[0]!r}; is this the right split and domain?"
        )
    tables = {
        domain: evaluate_predictions(
            [row for row in answered.rows if domain_of[row.query_id] == domain],
            [annotation for annotation in answered.truth if annotation.domain == domain],
            evaluator=answered.evaluator,
        )
        for domain in sorted(set(domain_of.values()))
    }
    if len(tables) == 1:
        return next(iter(tables.values()))
    mean = sum(table["mAP"] for table in tables.values()) / len(tables)
    return {"mAP": round(mean, 5), "domains": tables}
