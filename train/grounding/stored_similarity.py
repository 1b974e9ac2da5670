"""Answer about the videos of a store without training: only embeddings are read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from r2t.store.annotations import Annotation
from r2t.store.errors import R2TError
from r2t.store.feature_store import FeatureStore
from r2t.store.format import VideoRow
from r2t.store.progress import OnProgress, no_progress
from r2t.train.data import require_embeddings, select_items
from r2t.train.grounding.zero_shot import EmbeddedVideo
from r2t.train.model import Grounding

_READ_THREADS = 8
_READ_AHEAD = 64  # videos: 75 frames of 512 numbers take 77 kB


def embedded_videos(
    store: FeatureStore, rows: Iterable[VideoRow]
) -> Iterator[EmbeddedVideo | R2TError]:
    """Yield the embeddings of videos in order, or why they cannot be read; some are read ahead."""
    require_embeddings(store)

    def read(row: VideoRow) -> EmbeddedVideo | R2TError:
        try:
            embedding = store.read_embedding(row.video_id)
        except R2TError as error:
            return error
        return EmbeddedVideo(row.video_id, embedding, row.duration_seconds, row.frame_rate_fps)

    coming = iter(rows)
    with ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="r2t-embeddings") as pool:
        pending: deque[Future[EmbeddedVideo | R2TError]] = deque()
        try:
            pending.extend(pool.submit(read, row) for row in islice(coming, _READ_AHEAD))
            while pending:
                found = pending.popleft().result()
                pending.extend(pool.submit(read, row) for row in islice(coming, 1))
                yield found
        finally:
            pool.shutdown(cancel_futures=True)


class EmbeddedQueries:
    """Annotated queries of a store, to be answered without training.

    Queries whose video the store lacks are left out, with an `AnnotationWarning`.
    """

    def __init__(self, store: FeatureStore, annotations: Sequence[Annotation]) -> None:
        require_embeddings(store)
        self._store = store
        items = select_items(store, annotations, positive=None, min_duration_seconds=0.0)
        self.annotations = [item.annotation for item in items]

    def ground(self, on_queries: OnProgress = no_progress) -> dict[str, Grounding]:
        """Answer all queries, by id; `on_queries` is told how many are answered so far."""
        asked: dict[str, list[str]] = {}
        for annotation in self.annotations:
            asked.setdefault(annotation.video_id, []).append(annotation.query_id)
        rows = [row for row in self._store.video_rows() if row.video_id in asked]
        groundings: dict[str, Grounding] = {}
        for row, video in zip(rows, embedded_videos(self._store, rows), strict=True):
            if isinstance(video, R2TError):
                raise video
            for query_id in asked[row.video_id]:
                sentence = self._store.read_query_embedding(query_id)
                groundings[query_id] = video.ground(sentence)
            on_queries(len(groundings), len(self.annotations))
        return groundings
