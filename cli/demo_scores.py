"""What the demo's numbers are worth: R²-Tuning beside answers that use less."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from r2t.extract.demo import baselines
from r2t.extract.demo.baselines import SimilarityRule
from r2t.extract.similarity import similarity
from r2t.store.annotations import Annotation
from r2t.train.batch import collate
from r2t.train.decode import decode
from r2t.train.metrics import QueryScores, score_queries
from r2t.train.metrics_bootstrap import HEADLINE_METRICS, Interval, bootstrap, paired_difference
from r2t.train.reader import make_sample
from r2t.train.submission import SubmissionRow

if TYPE_CHECKING:
    from r2t.extract.clip import FrozenClip
    from r2t.store.feature_store import FeatureStore
    from r2t.train.grounder import Grounder

Moments = NDArray[np.float64]
OURS = "R²-Tuning"
SHUFFLED = "… asked others' sentences"
BATCH_SIZE = 16
NUM_RESAMPLES = 2000
MAX_TUNING_QUERIES = 300


@dataclass(frozen=True)
class Contender:
    """One way to answer, and how well it did: percent with 95 % intervals.

    `lead` is by how much R²-Tuning is better on the same queries, None for itself.
    """

    name: str
    scores: Mapping[str, Interval]
    lead: Mapping[str, Interval] | None


def compare(
    grounder: Grounder,
    clip: FrozenClip,
    store: FeatureStore,
    *,
    seed: int,
    on_queries: Callable[[int], None],
) -> list[Contender]:
    """Answer the test split in every way and score the answers; intervals resample videos.

    What the similarity baseline looks at, and how it turns a curve into moments, is chosen on the
    training split. `on_queries` hears how many queries were answered so far, of all those of
    `num_questions`.
    """
    test = store.annotations("test")
    rng = np.random.default_rng(seed)
    lengths = store.videos.set_index("video_id")["duration_seconds"]
    durations = [float(lengths[annotation.video_id]) for annotation in test]
    lenders = baselines.sentences_of_others([a.video_id for a in test], rng)
    answered = _Counter(on_queries)
    answers = {
        OURS: _ask(grounder, store, test, test, answered),
        SHUFFLED: _ask(grounder, store, test, [test[int(place)] for place in lenders], answered),
        "frozen CLIP similarity": _similarity_answers(clip, store, test, rng, answered),
        "random moments": [baselines.random_moments(rng, duration) for duration in durations],
        "whole video": [baselines.whole_video(duration) for duration in durations],
    }
    scores = {name: _score(test, moments) for name, moments in answers.items()}
    return [
        Contender(
            name,
            bootstrap(
                {metric: own.metrics()[metric] for metric in HEADLINE_METRICS},
                own.video_ids,
                num_samples=NUM_RESAMPLES,
                seed=seed,
            ),
            None
            if name == OURS
            else paired_difference(scores[OURS], own, num_samples=NUM_RESAMPLES, seed=seed),
        )
        for name, own in scores.items()
    ]


def num_questions(store: FeatureStore) -> int:
    """Return how many questions `compare` asks."""
    num_train = min(len(store.annotations("train")), MAX_TUNING_QUERIES)
    return 3 * len(store.annotations("test")) + num_train


class _Counter:
    def __init__(self, report: Callable[[int], None]) -> None:
        self._report = report
        self._done = 0

    def __call__(self, num: int) -> None:
        self._done += num
        self._report(self._done)


def _ask(
    grounder: Grounder,
    store: FeatureStore,
    videos: Sequence[Annotation],
    sentences: Sequence[Annotation],
    answered: _Counter,
) -> list[Moments]:
    """Ask each video the sentence at the same place of the other list."""
    read_video = lru_cache(maxsize=2)(store.read_video)  # a video's queries follow each other
    moments: list[Moments] = []
    for start in range(0, len(videos), BATCH_SIZE):
        pairs = zip(
            videos[start : start + BATCH_SIZE], sentences[start : start + BATCH_SIZE], strict=True
        )
        batch = collate(
            [
                make_sample(
                    read_video(video.video_id),
                    store.read_query(sentence.query_id).tokens,
                    video.query_id,
                )
                for video, sentence in pairs
            ]
        )
        with torch.inference_mode():
            predictions = grounder.model(batch.to(grounder.device))
        moments += [g.moments for g in decode(predictions, batch, grounder.config.decoding)]
        answered(len(batch))
    return moments


def _similarity_answers(
    clip: FrozenClip,
    store: FeatureStore,
    test: Sequence[Annotation],
    rng: np.random.Generator,
    answered: _Counter,
) -> list[Moments]:
    rows = store.annotations("train")
    chosen: list[int] = sorted(rng.permutation(len(rows))[:MAX_TUNING_QUERIES].tolist())
    tuning = [rows[place] for place in chosen]
    known = _curves(clip, store, tuning, answered)

    def tuning_score(view: str, rule: SimilarityRule) -> float:
        moments = [rule(*curves[view]) for curves in known]
        values = _score(tuning, moments).metrics()
        return float(np.mean([values[name].mean() for name in HEADLINE_METRICS]))

    def best_of(view: str) -> tuple[float, SimilarityRule]:
        rule = baselines.choose_rule(lambda rule: tuning_score(view, rule))
        return tuning_score(view, rule), rule

    found = {view: best_of(view) for view in ("CLS", "patches")}
    view = max(found, key=lambda name: found[name][0])
    rule = found[view][1]
    return [rule(*curves[view]) for curves in _curves(clip, store, test, answered)]


def _curves(
    clip: FrozenClip, store: FeatureStore, annotations: Sequence[Annotation], answered: _Counter
) -> list[dict[str, tuple[NDArray[np.float32], float, float]]]:
    """Return, per query, the similarity of CLS and of the best patch, with the video's timing."""
    read_video = lru_cache(maxsize=2)(store.read_video)
    curves: list[dict[str, tuple[NDArray[np.float32], float, float]]] = []
    for annotation in annotations:
        video = read_video(annotation.video_id)
        cosines = similarity(clip, video, store.read_query(annotation.query_id))
        timing = (video.frame_rate_fps, video.duration_seconds)
        curves.append(
            {"CLS": (cosines[:, 0], *timing), "patches": (cosines[:, 1:].max(axis=1), *timing)}
        )
        answered(1)
    return curves


def _score(annotations: Sequence[Annotation], moments: Sequence[Moments]) -> QueryScores:
    rows = [
        SubmissionRow(annotation.query_id, annotation.video_id, annotation.query, found)
        for annotation, found in zip(annotations, moments, strict=True)
    ]
    return score_queries(rows, annotations, evaluator="moments")
