"""Ask every video of a collection each of some sentences, so that rankings can be scored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from r2t.store.errors import R2TError
from r2t.store.feature_store import FeatureStore
from r2t.store.progress import OnProgress, no_progress
from r2t.train.data import Reading
from r2t.train.grounding.answerer import Answerer
from r2t.train.grounding.grounder import Grounder
from r2t.train.grounding.stored_similarity import embedded_videos
from r2t.train.grounding.stored_windows import ground_each
from r2t.train.grounding.windows import WindowPlan
from r2t.train.metrics import MOMENTS_PER_VIDEO, CorpusAnswers
from r2t.train.model import Grounding


def ask_corpus(
    answerer: Answerer,
    store: FeatureStore,
    query_ids: Sequence[str],
    video_ids: Sequence[str],
    *,
    plan: WindowPlan | None = None,
    on_videos: OnProgress = no_progress,
) -> CorpusAnswers:
    """Ask each video each query; `on_videos` is told how many videos have answered so far.

    The videos must be in the store's index. A video's features are read once.

    Raises:
        R2TError: if a video cannot be read.
    """
    scores = np.zeros((len(query_ids), len(video_ids)))
    moments = np.zeros((len(query_ids), len(video_ids), MOMENTS_PER_VIDEO, 3))
    found = _answers(answerer, store, query_ids, video_ids, plan or answerer.plan())
    for column, groundings in enumerate(found):
        if isinstance(groundings, R2TError):
            raise groundings
        for row, grounding in enumerate(groundings):
            scores[row, column] = grounding.video_score
            best = grounding.found(MOMENTS_PER_VIDEO)
            moments[row, column, : len(best)] = best
        on_videos(column + 1, len(video_ids))
    return CorpusAnswers(query_ids, video_ids, scores, moments)


def _answers(
    answerer: Answerer,
    store: FeatureStore,
    query_ids: Sequence[str],
    video_ids: Sequence[str],
    plan: WindowPlan,
) -> Iterable[list[Grounding] | R2TError]:
    if isinstance(answerer, Grounder):
        queries = [store.read_query(query_id) for query_id in query_ids]
        reading = Reading(device=answerer.device)
        yield from ground_each(answerer, store, video_ids, lambda _: queries, plan, reading)
        return
    sentences = [store.read_query_embedding(query_id) for query_id in query_ids]
    rows = {row.video_id: row for row in store.video_rows()}
    for video in embedded_videos(store, [rows[video_id] for video_id in video_ids]):
        if isinstance(video, R2TError):
            yield video
        else:
            yield [video.ground(sentence) for sentence in sentences]
