"""The annotated queries of a store or of a file, and what a model answers to them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import r2t.store
from r2t.cli.answers.loading import load_for_store
from r2t.cli.shared import (
    as_windows,
    note,
    progress_bar,
    read_annotation_file,
    read_predictions,
)
from r2t.store.annotations import Annotation, labelled
from r2t.store.errors import AnnotationError, ConfigError
from r2t.store.progress import OnProgress
from r2t.store.wording import counted, counted_of
from r2t.train import data, grounding, metrics, model, training
from r2t.train.choices import Evaluator

HIGHLIGHTS_ONLY = ("youtube", "tvsum")


@dataclass(frozen=True, eq=False)
class Answers:
    """Predictions beside what they are scored against, and how."""

    rows: Sequence[metrics.SubmissionRow]
    truth: Sequence[Annotation]
    evaluator: Evaluator

    def with_labels(self) -> Answers:
        """Return the answers to queries that can be scored, and warn of the others, if any can."""
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
    """Groundings of annotated queries, by query id, and where both came from."""

    answerer: grounding.Answerer
    store: r2t.store.FeatureStore
    truth: Sequence[Annotation]
    groundings: Mapping[str, model.Grounding]

    @property
    def evaluator(self) -> Evaluator:
        """How the answers are scored: as the run was trained for, else as QVHighlights' are."""
        if isinstance(self.answerer, grounding.Grounder):
            return self.answerer.config.evaluator
        return "qvhighlights"


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
    run: Path | None,
    dataset: str | None,
    split: str,
    domain: str | None,
    asking: Asking,
) -> Answers:
    """Answer the queries of a store's split by a run, or without one by the frozen CLIP."""
    asked = ask_store(location, run, split, domain, asking)
    evaluator = cast("Evaluator", dataset or asked.evaluator)
    return Answers(grounding.submission_rows(asked.groundings, asked.truth), asked.truth, evaluator)


def open_asked(
    location: str, run: Path | None, asking: Asking
) -> tuple[r2t.store.FeatureStore, grounding.Answerer]:
    """Open a store that is to be asked, and load who answers."""
    store = r2t.store.FeatureStore.open(location)
    answerer = load_for_store(
        run,
        store,
        windows=asking.windows,
        device=asking.device,
        action=f"evaluate {run} on {location}",
    )
    return store, answerer


def ask_store(
    location: str, run: Path | None, split: str, domain: str | None, asking: Asking
) -> AskedStore:
    """Ground the queries of a store's split, under a progress bar."""
    store, answerer = open_asked(location, run, asking)
    if isinstance(answerer, grounding.Grounder):
        truth, plan, answer = _model_queries(answerer, store, split, domain, asking)
    else:
        embedded = grounding.EmbeddedQueries(store, store.annotations(split, domain))
        truth, plan, answer = embedded.annotations, answerer.plan(), embedded.ground
    if not truth:
        offered = ", ".join(sorted(set(store.queries["split"]))) or "no queries at all"
        where = f" and domain {domain!r}" if domain else ""
        raise ConfigError(
            f"{location} has no query with features of split {split!r}{where}; it has {offered}"
        )
    note_long_videos(store, plan, {row.video_id for row in truth})
    with progress_bar("queries", len(truth)) as show_done:
        groundings = answer(show_done)
    return AskedStore(answerer, store, truth, groundings)


def _model_queries(
    grounder: grounding.Grounder,
    store: r2t.store.FeatureStore,
    split: str,
    domain: str | None,
    asking: Asking,
) -> tuple[
    list[Annotation],
    grounding.WindowPlan,
    Callable[[OnProgress], dict[str, model.Grounding]],
]:
    """Return what a trained model is asked, in which windows, and what answers it."""
    plan = grounding.scoring_plan(grounder.config, grounder.trained_on, as_windows(asking.windows))
    queries = training.evaluation_queries(store, split, domain, grounder.trained_on)
    stored = grounding.StoredQueries(
        store,
        queries,
        plan,
        batch_size=asking.batch_size,
        prior=grounder.has_prior,
        reading=data.Reading(device=grounder.device),
    )
    return stored.annotations, plan, partial(stored.ground, grounder)


def note_long_videos(
    store: r2t.store.FeatureStore, plan: grounding.WindowPlan, video_ids: Collection[str]
) -> None:
    """Say how many of the videos are not asked as one."""
    if count := len(grounding.long_videos(store, plan).intersection(video_ids)):
        note(
            f"note: {counted_of(count, len(video_ids), 'video')} with more than "
            f"{plan.limit_frames} frames: asked in overlapping windows of {plan.num_frames} "
            "frames, whose answers are merged"
        )


def score_table(
    answered: Answers, *, num_resamples: int = 0, strict_official: bool = False
) -> dict[str, Any]:
    """Return the official table; with resamples also `intervals`, per key of its `brief`.

    Highlight datasets are scored a domain at a time: of several, `domains` has each and `mAP` is
    their mean.
    """
    answered = answered.with_labels()
    if answered.evaluator in HIGHLIGHTS_ONLY:
        if num_resamples:
            raise ConfigError(f"{answered.evaluator} has no intervals: leave --bootstrap out")
        return _score_domains(answered)
    scores = metrics.score_queries(
        answered.rows,
        answered.truth,
        evaluator=cast("Any", answered.evaluator),
        strict_official=strict_official,
    )
    table = metrics.official_table(scores, strict_official=strict_official)
    if num_resamples:
        intervals = metrics.bootstrap_intervals(
            scores.metrics(), scores.video_ids, num_samples=num_resamples
        )
        table["intervals"] = {
            name: [round(interval.low, 2), round(interval.high, 2)]
            for name, interval in intervals.items()
        }
    return table


def _score_domains(answered: Answers) -> dict[str, Any]:
    domain_of = {annotation.query_id: annotation.domain for annotation in answered.truth}
    unknown = [row.query_id for row in answered.rows if row.query_id not in domain_of]
    if unknown:
        raise AnnotationError(
            f"{counted(len(unknown), 'prediction')} for none of the annotated videos, such as "
            f"{unknown[0]!r}; is this the right split and domain?"
        )
    tables = {
        domain: metrics.evaluate_predictions(
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
