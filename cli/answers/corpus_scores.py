"""`r2t eval --corpus`: how well videos and moments are found in a whole collection."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

import r2t.store
from r2t.cli.answers.loading import answered_by
from r2t.cli.answers.query_answers import Asking, open_asked
from r2t.cli.shared import as_windows, cell, note, progress_bar
from r2t.store.annotations import Annotation
from r2t.store.errors import ConfigError
from r2t.store.wording import counted
from r2t.train import grounding, metrics, training

RANDOM_ORDER, FROZEN = "in random order", "frozen CLIP"


@dataclass(frozen=True)
class CorpusQuestion:
    """What is asked: which split, at most how many of its sentences, and what is known to fit."""

    split: str
    domain: str | None
    relevant: Path | None
    num_queries: int | None
    seed: int


def score_corpus_of_store(
    location: str, run: Path | None, question: CorpusQuestion, asking: Asking, num_resamples: int
) -> dict[str, Any]:
    """Ask every video of a split each of its sentences; return scores as JSON values.

    They are those of who answers; of the same videos and moments in random order; and of the
    frozen CLIP, if the store has embeddings.
    """
    store, answerer = open_asked(location, run, asking)
    annotations = _annotations(answerer, store, question)
    further = metrics.read_relevance(question.relevant) if question.relevant else None
    relevance = metrics.relevant_videos(annotations, further)
    asked = _drawn(annotations, question)
    videos = sorted({row.video_id for row in annotations})
    note(
        f"asking {counted(len(videos), 'video')} {counted(len(asked), 'sentence')} each, which is "
        f"{len(asked) * len(videos):,} answers; --num-queries asks fewer"
    )
    ids = [row.query_id for row in asked]
    who = [_name(run), *([FROZEN] if run is not None and store.embedding is not None else [])]
    scores: dict[str, Mapping[str, Any]] = {}
    for name in who:
        ask = grounding.ZeroShotGrounder.of_store(store) if name == FROZEN else answerer
        plan = ask.plan() if name == FROZEN else ask.plan(as_windows(asking.windows))
        with progress_bar("videos", len(videos)) as show_done:
            found = grounding.ask_corpus(ask, store, ids, videos, plan=plan, on_videos=show_done)
        if name == who[0]:
            scores[RANDOM_ORDER] = metrics.score_chance(found, annotations, relevance)
        scores[name] = metrics.score_corpus(found, annotations, relevance)
    own = [row.video_id for row in asked]
    fitting = sum(len(relevance[query_id]) for query_id in ids) / len(ids)
    return {
        **answered_by(run, answerer),
        "video_score": answerer.video_score_name,
        "num_videos": len(videos),
        "num_queries": len(ids),
        "videos_that_fit_a_query": fitting,
        "scores": {name: _intervals(values, own, num_resamples) for name, values in scores.items()},
    }


def corpus_table(scores: Mapping[str, Any]) -> Table:
    """Lay out the scores of `score_corpus_of_store`, in percent with 95 % intervals."""
    table = Table(
        title=f"{scores['num_queries']} sentences asked of {scores['num_videos']} videos, of which "
        f"{scores['videos_that_fit_a_query']:.1f} fit in the mean; percent",
        title_justify="left",
    )
    table.add_column("")
    for name in scores["scores"]:
        table.add_column(cell(name), justify="right")
    for metric in next(iter(scores["scores"].values())):
        cells = [values[metric] for values in scores["scores"].values()]
        shown = [f"{each['value']:.1f} [{each['low']:.1f}, {each['high']:.1f}]" for each in cells]
        table.add_row(metric, *shown)
    return table


def _name(run: Path | None) -> str:
    return FROZEN if run is None else run.resolve().name


def _annotations(
    answerer: grounding.Answerer, store: r2t.store.FeatureStore, question: CorpusQuestion
) -> list[Annotation]:
    if isinstance(answerer, grounding.Grounder):
        trained_on = answerer.trained_on
        rows = training.evaluation_queries(store, question.split, question.domain, trained_on)
    else:
        rows = store.annotations(question.split, question.domain)
    rows = [row for row in rows if store.is_indexed(row.video_id)]
    if len({row.video_id for row in rows}) < 2:
        raise ConfigError(
            f"{store.location} has queries of fewer than two videos in split {question.split!r}: "
            "there is nothing to rank"
        )
    return rows


def _drawn(annotations: Sequence[Annotation], question: CorpusQuestion) -> Sequence[Annotation]:
    if question.num_queries is None or question.num_queries >= len(annotations):
        return annotations
    return random.Random(question.seed).sample(annotations, question.num_queries)


def _intervals(
    values: Mapping[str, Any], video_ids: Sequence[str], num_resamples: int
) -> dict[str, Any]:
    found = metrics.bootstrap_intervals(values, video_ids, num_samples=num_resamples)
    return {name: asdict(interval) for name, interval in found.items()}
