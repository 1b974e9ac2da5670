"""What the demo's numbers are worth: R²-Tuning beside answers that use less."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

import r2t.extract
import r2t.extract.clip
import r2t.store
import r2t.train
from r2t.extract.demo import (
    ScoredMoments,
    SimilarityRule,
    choose_similarity_rule,
    random_moments,
    sentences_of_others,
    smoothed_curve,
    whole_video,
)
from r2t.store.annotations import Annotation
from r2t.store.progress import OnProgress, no_progress
from r2t.train.metrics import (
    HEADLINE_METRICS,
    Interval,
    QueryScores,
    SubmissionRow,
    bootstrap_intervals,
    score_queries,
)

Values = NDArray[np.float64]  # one for each query
OURS = "R²-Tuning"
SHUFFLED = "… asked others' sentences"
SIMILARITY = "frozen CLIP similarity"
KIND_METRIC = "MR-full-mAP"
NUM_RESAMPLES = 2000


Scores = Mapping[str, QueryScores]  # by the name of who answered


@dataclass(frozen=True)
class ScoredMethod:
    """One way to answer, and how well it did: percent with 95 % intervals.

    `lead` is by how much R²-Tuning is better on the same queries, None for itself. `by_kind` is the
    mAP over the queries of each kind.
    """

    name: str
    scores: Mapping[str, Interval]
    lead: Mapping[str, Interval] | None
    by_kind: Mapping[str, float]


def compare_methods(runs: Sequence[Scores], kinds: Mapping[str, str]) -> list[ScoredMethod]:
    """Set intervals on what `score_answers` found in one or more trainings; `kinds` is by query id.

    A query's scores are averaged over the trainings. Intervals resample whole videos.
    """
    first = runs[0][OURS]
    kind = np.array([kinds[query_id] for query_id in first.query_ids])
    means = {
        name: {
            metric: np.mean([run[name].metrics()[metric] for run in runs], axis=0)
            for metric in HEADLINE_METRICS
        }
        for name in runs[0]
    }

    def interval(values: Mapping[str, Values]) -> dict[str, Interval]:
        return bootstrap_intervals(values, first.video_ids, num_samples=NUM_RESAMPLES)

    def lead(theirs: Mapping[str, Values]) -> dict[str, Interval]:
        return interval({metric: means[OURS][metric] - theirs[metric] for metric in theirs})

    return [
        ScoredMethod(
            name,
            interval(values),
            None if name == OURS else lead(values),
            {each: float(values[KIND_METRIC][kind == each].mean()) for each in np.unique(kind)},
        )
        for name, values in means.items()
    ]


class QuestionCounter:
    """Counts the questions of all ways of answering together, and says how many are answered."""

    def __init__(self, total: int = 0, on_queries: OnProgress = no_progress) -> None:
        self._total = total
        self._on_queries = on_queries
        self._done = 0

    def add(self, num_questions: int) -> None:
        """Count questions that have been answered."""
        self._done += num_questions
        self._on_queries(self._done, self._total)


def score_answers(
    grounder: r2t.train.Grounder,
    clip: r2t.extract.FrozenClip,
    store: r2t.store.FeatureStore,
    *,
    seed: int,
    on_queries: OnProgress,
) -> dict[str, QueryScores]:
    """Answer the test split in every way and score the answers.

    What the similarity baseline looks at, and how it turns a curve into moments, is chosen on all
    of the training split. `on_queries` is told how many questions are answered so far.
    """
    rng = np.random.default_rng(seed)
    test, train = store.annotations("test"), store.annotations("train")
    answered = QuestionCounter(3 * len(test) + len(train), on_queries)
    return {
        **score_model(grounder, store, rng, answered),
        **score_untrained(clip, store, rng, answered),
    }


def score_model(
    grounder: r2t.train.Grounder,
    store: r2t.store.FeatureStore,
    rng: Generator,
    answered: QuestionCounter | None = None,
) -> dict[str, QueryScores]:
    """Score a model on the test split, and the same model asked with others' sentences."""
    answered = answered or QuestionCounter()
    test = store.annotations("test")
    lenders = sentences_of_others([row.video_id for row in test], rng)
    asked = {OURS: test, SHUFFLED: [test[int(place)] for place in lenders]}
    return {
        name: _score(test, _ask(grounder, store, test, sentences, answered))
        for name, sentences in asked.items()
    }


def score_untrained(
    clip: r2t.extract.FrozenClip,
    store: r2t.store.FeatureStore,
    rng: Generator,
    answered: QuestionCounter | None = None,
) -> dict[str, QueryScores]:
    """Score on the test split what needs no training."""
    answered = answered or QuestionCounter()
    test = store.annotations("test")
    lengths = store.videos.set_index("video_id")["duration_seconds"]
    durations = [float(lengths[row.video_id]) for row in test]
    answers = {
        SIMILARITY: _similarity_answers(clip, store, test, answered),
        "random moments": [random_moments(rng, duration) for duration in durations],
        "whole video": [whole_video(duration) for duration in durations],
    }
    return {name: _score(test, moments) for name, moments in answers.items()}


def _ask(
    grounder: r2t.train.Grounder,
    store: r2t.store.FeatureStore,
    videos: Sequence[Annotation],
    sentences: Sequence[Annotation],
    answered: QuestionCounter,
) -> list[ScoredMoments]:
    """Ask each video the sentence at the same place of the other list."""
    moments: list[ScoredMoments] = []
    for video_id, places in _by_video(videos):
        queries = [store.read_query(sentences[place].query_id) for place in places]
        found = grounder.ground(store.read_video(video_id), queries)
        moments += [grounding.moments for grounding in found]
        answered.add(len(places))
    return moments


def _by_video(annotations: Sequence[Annotation]) -> Iterator[tuple[str, list[int]]]:
    """Yield runs of neighbours of one video, as places in the list."""
    for video_id, places in groupby(
        range(len(annotations)), key=lambda place: annotations[place].video_id
    ):
        yield video_id, list(places)


def _similarity_answers(
    clip: r2t.extract.FrozenClip,
    store: r2t.store.FeatureStore,
    test: Sequence[Annotation],
    answered: QuestionCounter,
) -> list[ScoredMoments]:
    tuning = store.annotations("train")
    known = _curves(clip, store, tuning, answered)

    @cache
    def smoothed(view: str, width: int) -> list[NDArray[np.float64]]:
        return [smoothed_curve(curves[view][0], width) for curves in known]

    @cache
    def tuning_score(view: str, rule: SimilarityRule) -> float:
        moments = [
            rule.read(curve, *curves[view][1:])
            for curve, curves in zip(smoothed(view, rule.smooth), known, strict=True)
        ]
        values = _score(tuning, moments).metrics()
        return float(np.mean([values[name].mean() for name in HEADLINE_METRICS]))

    def best_of(view: str) -> tuple[float, SimilarityRule]:
        rule = choose_similarity_rule(lambda each: tuning_score(view, each))
        return tuning_score(view, rule), rule

    found = {view: best_of(view) for view in ("CLS", "patches")}
    view = max(found, key=lambda name: found[name][0])
    rule = found[view][1]
    return [rule(*curves[view]) for curves in _curves(clip, store, test, answered)]


def _curves(
    clip: r2t.extract.FrozenClip,
    store: r2t.store.FeatureStore,
    annotations: Sequence[Annotation],
    answered: QuestionCounter,
) -> list[dict[str, tuple[NDArray[np.float32], float, float]]]:
    """Return, per query, the similarity of CLS and of the best patch, with the video's timing."""
    curves: list[dict[str, tuple[NDArray[np.float32], float, float]]] = []
    for video_id, places in _by_video(annotations):
        video = store.read_video(video_id)
        queries = [store.read_query(annotations[place].query_id) for place in places]
        timing = (video.frame_rate_fps, video.duration_seconds)
        curves += [
            {"CLS": (cosines[:, 0], *timing), "patches": (cosines[:, 1:].max(axis=1), *timing)}
            for cosines in r2t.extract.clip.frame_similarity(clip, video, queries)
        ]
        answered.add(len(places))
    return curves


def _score(annotations: Sequence[Annotation], moments: Sequence[ScoredMoments]) -> QueryScores:
    rows = [
        SubmissionRow(annotation.query_id, annotation.video_id, annotation.query, found)
        for annotation, found in zip(annotations, moments, strict=True)
    ]
    return score_queries(rows, annotations, evaluator="moments")
