"""Choose the threshold of presence: ask a store's videos sentences of their own and of others."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np

from r2t.store.annotations import Annotation
from r2t.store.feature_store import FeatureStore
from r2t.store.progress import OnProgress, no_progress
from r2t.train.data import Reading
from r2t.train.grounding.grounder import Grounder
from r2t.train.grounding.presence import PresenceRule
from r2t.train.grounding.presence_scores import PresenceScores
from r2t.train.grounding.stored_windows import ground_stored
from r2t.train.grounding.windows import WindowPlan
from r2t.train.metrics import Relevance, relevant_videos


def choose_presence_rule(
    grounder: Grounder,
    store: FeatureStore,
    annotations: Sequence[Annotation],
    *,
    relevance: Relevance | None = None,
    absent_per_query: int = 4,
    seed: int = 0,
    plan: WindowPlan | None = None,
    on_queries: OnProgress = no_progress,
) -> PresenceRule:
    """Ask videos their own queries and some of other videos, and choose a threshold.

    A sentence that is annotated for a video, or that `relevance` names it for, is never taken as
    absent from it; one that fits and is not known to may be. `plan` defaults to the run's windows.
    `on_queries` is told how many questions are answered so far.
    """
    present: list[float] = []
    absent: list[float] = []
    asked: list[tuple[int, int]] = []
    plan = plan or grounder.plan()
    questions = list(_questions(annotations, relevance, absent_per_query, seed))
    ids = {video_id: [*own, *others] for video_id, own, others in questions}
    num_questions = sum(map(len, ids.values()))
    answers = ground_stored(grounder, store, ids, plan, Reading(device=grounder.device))
    for (_, own, others), found in zip(questions, answers, strict=True):
        scores = [each.video_score for each in found]
        present += scores[: len(own)]
        absent += scores[len(own) :]
        asked.append((len(own), len(others)))
        on_queries(len(present) + len(absent), num_questions)
    videos = np.arange(len(asked))
    counts = np.array(asked).reshape(-1, 2)
    return PresenceRule.choose(
        PresenceScores(
            np.array(present),
            np.array(absent),
            np.repeat(videos, counts[:, 0]),
            np.repeat(videos, counts[:, 1]),
        ),
        grounder.video_score_name,
        store.spec.frame_rate,
    )


def _questions(
    annotations: Sequence[Annotation],
    relevance: Relevance | None,
    absent_per_query: int,
    seed: int,
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each video, its queries, and queries whose sentence is known of others alone."""
    draw = random.Random(seed)
    own: dict[str, list[Annotation]] = {}
    fitting = relevant_videos(annotations, relevance)
    for annotation in annotations:
        own.setdefault(annotation.video_id, []).append(annotation)
    for video_id, rows in own.items():
        strangers = [row for row in annotations if video_id not in fitting[row.query_id]]
        count = min(len(strangers), absent_per_query * len(rows))
        chosen = draw.sample(strangers, count)
        yield video_id, [row.query_id for row in rows], [row.query_id for row in chosen]
