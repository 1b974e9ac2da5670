"""From a store to batches: threads read the next ones while the model works on this one.

A video is read once for all its queries in a batch, in the dtype it is stored in. At most
`prefetch` batches are in memory beside the one in use.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from r2t.store.annotations import Annotation
from r2t.store.errors import AnnotationWarning, ConfigError
from r2t.store.feature_store import FeatureStore
from r2t.store.schema import VideoFeatures
from r2t.train.batch import Batch, Binding, Labels, PositiveRule, Sample, bind, collate

_READ_THREADS = 2


@dataclass(frozen=True)
class _Item:
    annotation: Annotation
    binding: Binding | None


class FeatureReader:
    """Batches of a store's queries; labelled for training if `positive` is given.

    Annotations whose video the store lacks are left out, and counted in one `AnnotationWarning`;
    so are the moments that had to be clamped or widened to fit the frames, and videos shorter than
    `min_duration_seconds`.
    """

    def __init__(
        self,
        store: FeatureStore,
        annotations: Sequence[Annotation],
        *,
        batch_size: int,
        seed: int = 0,
        positive: PositiveRule | None = None,
        min_duration_seconds: float = 0.0,
        prefetch: int = 2,
    ) -> None:
        if batch_size < 1 or prefetch < 1:
            raise ConfigError(f"{batch_size = }, {prefetch = }: both must be positive")
        self._store = store
        self._batch_size = batch_size
        self._seed = seed
        self._prefetch = prefetch
        self._items = _select(store, annotations, positive, min_duration_seconds)

    def __len__(self) -> int:
        """Return the number of batches in a pass."""
        return -(-len(self._items) // self._batch_size)

    @property
    def annotations(self) -> list[Annotation]:
        """What is read, in the order given."""
        return [item.annotation for item in self._items]

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield a shuffled pass that depends on nothing but the seed and its number."""
        generator = np.random.default_rng([self._seed, number])
        order = generator.permutation(len(self._items)).tolist()
        # Positive frames are drawn here, in order, so that reading ahead cannot change them.
        labels = [
            binding.draw(generator) if (binding := self._items[place].binding) else None
            for place in order
        ]
        return self._batches(order, labels)

    def in_order(self) -> Iterator[Batch]:
        """Yield a pass in the order given, without labels, for evaluation."""
        return self._batches(list(range(len(self._items))), [None] * len(self._items))

    def _batches(self, order: list[int], labels: list[Labels | None]) -> Iterator[Batch]:
        starts = iter(range(0, len(order), self._batch_size))
        pending: deque[Future[Batch]] = deque()
        pool = ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="r2t-read")
        try:
            while True:
                while len(pending) < self._prefetch and (start := next(starts, None)) is not None:
                    stop = start + self._batch_size
                    pending.append(pool.submit(self._read, order[start:stop], labels[start:stop]))
                if not pending:
                    return
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _read(self, places: list[int], labels: list[Labels | None]) -> Batch:
        videos: dict[str, VideoFeatures] = {}
        samples: list[Sample] = []
        for place, label in zip(places, labels, strict=True):
            annotation = self._items[place].annotation
            if annotation.video_id not in videos:
                videos[annotation.video_id] = self._store.read_video(annotation.video_id)
            query = self._store.read_query(annotation.query_id)
            sample = make_sample(videos[annotation.video_id], query.tokens, annotation.query_id)
            samples.append(sample if label is None else sample.with_labels(label))
        return collate(samples)


def make_sample(video: VideoFeatures, query_tokens: np.ndarray, query_id: str) -> Sample:
    """Pair features of a video and a query; eight-bit tokens are decoded."""
    return Sample(
        query_id=query_id,
        video=torch.from_numpy(video.decoded()),
        query=torch.from_numpy(query_tokens),
        duration_seconds=video.duration_seconds,
        frame_rate_fps=video.frame_rate_fps,
    )


def _select(
    store: FeatureStore,
    annotations: Sequence[Annotation],
    positive: PositiveRule | None,
    min_duration_seconds: float,
) -> list[_Item]:
    table = store.videos
    columns = ("num_frames", "frame_rate_fps", "duration_seconds")
    known = {
        video_id: values
        for video_id, *values in zip(
            table["video_id"], *(table[name] for name in columns), strict=True
        )
    }
    absent: list[Annotation] = []
    short: list[Annotation] = []
    items: list[_Item] = []
    for annotation in annotations:
        if annotation.video_id not in known:
            absent.append(annotation)
            continue
        num_frames, frame_rate_fps, duration_seconds = known[annotation.video_id]
        if duration_seconds < min_duration_seconds:
            short.append(annotation)
            continue
        binding = None
        if positive is not None:
            binding = bind(annotation, int(num_frames), float(frame_rate_fps), positive)
        items.append(_Item(annotation, binding))
    adjusted = sum(item.binding.num_adjusted for item in items if item.binding)
    for count, what in (
        (len(absent), f"queries are left out: the store lacks their videos{_names(absent)}"),
        (
            len(short),
            f"queries are left out: videos under {min_duration_seconds:g} s{_names(short)}",
        ),
        (adjusted, "moments were clamped to their video or widened to one frame"),
    ):
        if count:
            warnings.warn(f"{count} {what}", AnnotationWarning, stacklevel=3)
    return items


def _names(annotations: list[Annotation], shown: int = 3) -> str:
    videos = list(dict.fromkeys(annotation.video_id for annotation in annotations))
    more = f" and {len(videos) - shown} more" if len(videos) > shown else ""
    return f" ({', '.join(videos[:shown])}{more})"
