"""Ask every video of a store one question: CLIP's vision tower has no part in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from r2t.store.errors import R2TError
from r2t.store.feature_store import FeatureStore
from r2t.store.frame_source import stored_video
from r2t.store.schema import QueryFeatures, VideoFeatures
from r2t.train.batch import collate
from r2t.train.decode import Grounding, decode
from r2t.train.grounder import Grounder
from r2t.train.presence import presence_score
from r2t.train.reader import make_sample
from r2t.train.window_plan import WindowPlan, asking_plan
from r2t.train.windows import ground_source

_READ_THREADS = 2
_PREFETCH = 2


@dataclass(frozen=True, eq=False)
class Answer:
    """What one video answers: a grounding and the score that ranks it, or why there is none."""

    video_id: str
    grounding: Grounding | None
    score: float
    error: R2TError | None = None


def search(
    grounder: Grounder,
    store: FeatureStore,
    query: QueryFeatures,
    *,
    batch_size: int = 16,
    plan: WindowPlan | None = None,
) -> Iterator[Answer]:
    """Yield every video's answer as it is found; at most three batches are in memory.

    Videos of like length share a batch; those longer than the windows of `plan`, by default the
    run's, allow are asked in windows, one at a time. Answers are the ones that a video gives alone.
    """
    plan = plan or asking_plan(grounder.config, grounder.trained_on)
    lengths = store.lengths()
    ordered = sorted(lengths, key=lambda video_id: (lengths[video_id], video_id))
    whole = [video_id for video_id in ordered if not plan.divides(lengths[video_id])]
    for videos, failures in _batches(store, whole, batch_size):
        yield from failures
        if videos:
            yield from _ask(grounder, videos, query)
    for video_id in ordered[len(whole) :]:
        try:
            source = stored_video(store, video_id)
            (grounding,) = ground_source(grounder, source, [query], plan=plan)
        except R2TError as error:
            yield Answer(video_id, None, 0.0, error)
        else:
            yield Answer(video_id, grounding, presence_score(grounding))


def _ask(
    grounder: Grounder, videos: Sequence[VideoFeatures], query: QueryFeatures
) -> Iterator[Answer]:
    batch = collate([make_sample(video, query.tokens, video.video_id) for video in videos])
    with torch.inference_mode():
        predictions = grounder.model(batch.to(grounder.device))
    groundings = decode(predictions, batch, grounder.config.decoding)
    for video, grounding in zip(videos, groundings, strict=True):
        yield Answer(video.video_id, grounding, presence_score(grounding))


def _batches(
    store: FeatureStore, video_ids: Sequence[str], batch_size: int
) -> Iterator[tuple[list[VideoFeatures], list[Answer]]]:
    """Read videos ahead of their use, with those that could not be read beside them."""

    def read(chosen: Sequence[str]) -> tuple[list[VideoFeatures], list[Answer]]:
        videos: list[VideoFeatures] = []
        failures: list[Answer] = []
        for video_id in chosen:
            try:
                videos.append(store.read_video(video_id))
            except R2TError as error:
                failures.append(Answer(video_id, None, 0.0, error))
        return videos, failures

    starts = iter(range(0, len(video_ids), batch_size))
    pending: deque[Future[tuple[list[VideoFeatures], list[Answer]]]] = deque()
    pool = ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="r2t-search")
    try:
        while True:
            while len(pending) < _PREFETCH and (start := next(starts, None)) is not None:
                pending.append(pool.submit(read, video_ids[start : start + batch_size]))
            if not pending:
                return
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
