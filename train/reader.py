"""From a store to batches: threads read the next ones while the model works on this one.

Bytes go from the store's files straight into the memory of a batch, in the dtype they are stored
in, each video once for all its queries there. That memory is a ring of a few batches, kept from
epoch to epoch, so a batch is valid until the next is asked for: `Batch.clone` keeps one.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from r2t.store.annotations import Annotation
from r2t.store.errors import ConfigError, ReadingWarning
from r2t.store.feature_store import FeatureStore
from r2t.store.machine import allowed_cores
from r2t.store.schema import VideoFeatures
from r2t.store.video_reader import StoredVideo
from r2t.train.batch import (
    Batch,
    Labels,
    PositiveRule,
    Sample,
    Targets,
    collate_labels,
    float64_seconds,
    pad_second_axis,
)
from r2t.train.ring import Buffer, Slot, onto_gpu
from r2t.train.sampling import EpochOrder, Row, Step, share_of, share_sizes
from r2t.train.selection import Item, select_items
from r2t.train.video_cache import VideoCache

_READ_THREADS = min(8, max(2, allowed_cores()))


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How features are read; none of it changes what is in a batch.

    `prefetch` batches are read ahead; fewer, and with a `ReadingWarning`, if they would take more
    than `buffer_gb` (1e9 bytes) together with the one in use. A reader keeps that memory. On a GPU
    `device` two more are on it. Of every batch, process `rank` of `num_ranks` reads its own part.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    prefetch: int = 2
    buffer_gb: float = 8.0
    cache: VideoCache | None = None
    rank: int = 0
    num_ranks: int = 1

    def __post_init__(self) -> None:
        if self.prefetch < 1:
            raise ConfigError(f"prefetch = {self.prefetch}: must be positive")
        if not self.buffer_gb > 0:
            raise ConfigError(f"buffer_gb = {self.buffer_gb}: must be positive")

    @property
    def assembled_on(self) -> torch.device:
        """Where batches are put together: on the host unless the features are on the GPU."""
        return torch.device("cpu") if self.cache is None else self.cache.device


@dataclass(frozen=True)
class _Load:
    """One batch to read; each of `labels` makes a batch of it, without labels one does."""

    items: list[Item]
    num_frames: int
    labels: list[list[Labels]] = field(default_factory=list)
    rank_counts: tuple[int, ...] = ()


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
        positive: PositiveRule | None = None,
        min_duration_seconds: float = 0.0,
        order: EpochOrder | None = None,
        reading: Reading | None = None,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size = {batch_size}: must be positive")
        self._store = store
        self._batch_size = batch_size
        self._order = order or EpochOrder()
        self._reading = reading or Reading()
        self._items = select_items(store, annotations, positive, min_duration_seconds)
        self._rows = [item.row for item in self._items]
        self._located: dict[Row, StoredVideo] = {}
        self._told = False
        self._spare: list[Slot] = []  # memory of the ring, between epochs
        if self._reading.cache is not None:
            frame_bytes = store.spec.frame_bytes()
            self._reading.cache.reserve({row: row.num_frames * frame_bytes for row in self._rows})

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self._order.num_steps(len(self._items), self._batch_size)

    @property
    def annotations(self) -> list[Annotation]:
        """What is read, in the order given."""
        return [item.annotation for item in self._items]

    @property
    def most_frames(self) -> int:
        """Frames of a full batch, padded to the longest video."""
        return self._batch_size * max((row.num_frames for row in self._rows), default=0)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield an epoch, or the rest of it from batch `start`; it depends on seed and number."""
        passes = list(self._order.passes(number, self._rows, self._batch_size))
        sizes = [self._num_bytes(self._load(s.samples, [])) for steps, _ in passes for s in steps]
        return self._batches(self._labelled(passes, start), sizes)

    def in_order(self) -> Iterator[Batch]:
        """Yield a pass in the order given, without labels, for evaluation.

        Of several processes each gets the batches of its own part.
        """
        mine = share_of(list(range(len(self._items))), self._reading.rank, self._reading.num_ranks)
        loads: list[_Load] = []
        for first in range(0, len(mine), self._batch_size):
            items = [self._items[place] for place in mine[first : first + self._batch_size]]
            loads.append(_Load(items, max(item.row.num_frames for item in items)))
        return self._batches(iter(loads), [self._num_bytes(load) for load in loads])

    def _labelled(
        self, passes: list[tuple[list[Step], np.random.Generator]], start: int
    ) -> Iterator[_Load]:
        for steps, generator in passes:
            for step in steps:
                # Drawn here, in order, so that reading ahead and starting late change nothing.
                labels = [self._draw(step.samples, generator) for _ in range(step.times)]
                skipped = min(start, step.times)
                start -= skipped
                if skipped < step.times:
                    yield self._load(step.samples, labels[skipped:])

    def _draw(self, samples: list[int], generator: np.random.Generator) -> list[Labels]:
        bindings = [self._items[sample].binding for sample in samples]
        return [binding.draw(generator) for binding in bindings if binding is not None]

    def _load(self, samples: list[int], labels: list[list[Labels]]) -> _Load:
        """Take this process's part of a batch, padded as the whole of it is."""
        num_frames = max(self._rows[sample].num_frames for sample in samples)
        if self._reading.num_ranks == 1:
            return _Load([self._items[sample] for sample in samples], num_frames, labels)
        counts = tuple(share_sizes(len(samples), self._reading.num_ranks))
        own = share_of(samples, self._reading.rank, self._reading.num_ranks) or samples[:1]
        return _Load([self._items[sample] for sample in own], num_frames, labels, counts)

    def _batches(self, loads: Iterator[_Load], sizes: list[int]) -> Iterator[Batch]:
        batches = self._assemble(loads, self._ring_length(sizes))
        if self._reading.device.type != "cuda":
            return batches
        if self._reading.assembled_on.type == "cuda":
            return (batch.to(self._reading.device) for batch in batches)
        return onto_gpu(batches, self._reading.device)

    def _assemble(self, loads: Iterator[_Load], ring_length: int) -> Generator[Batch]:
        free = deque(self._spare.pop() if self._spare else self._slot() for _ in range(ring_length))
        pending: deque[_Filling] = deque()
        pool = ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="r2t-read")
        try:
            while True:
                while free and (load := next(loads, None)) is not None:
                    pending.append(self._begin(load, free.popleft(), pool))
                if not pending:
                    return
                yield from pending[0].batches()
                free.append(pending.popleft().slot)
        finally:
            pool.shutdown(cancel_futures=True)
            self._spare += [*free, *(filling.slot for filling in pending)]

    def _ring_length(self, sizes: list[int]) -> int:
        """Return how many batches of up to these bytes to hold, as far as memory allows."""
        if not sizes:
            return 0
        largest = max(sizes)
        affordable = int(self._reading.buffer_gb * 1e9 / largest)
        if affordable < 1:
            raise ConfigError(
                f"the largest batch takes {largest / 1e9:.2f} GB and buffers are limited to "
                f"{self._reading.buffer_gb:g} GB: allow more, or make batches smaller"
            )
        wanted = min(self._reading.prefetch + 1, len(sizes))
        if affordable < wanted and not self._told:
            self._told = True
            warnings.warn(
                f"{affordable - 1} of {wanted - 1} batches are read ahead: one takes up to "
                f"{largest / 1e9:.2f} GB and buffers are limited to {self._reading.buffer_gb:g} GB",
                ReadingWarning,
                stacklevel=2,
            )
        return min(affordable, wanted)

    def _num_bytes(self, load: _Load) -> int:
        return len(_rows_of(load.items)) * load.num_frames * self._store.spec.frame_bytes()

    def _slot(self) -> Slot:
        device = self._reading.assembled_on
        return Slot.on(device, pinned=device.type == "cpu" and self._reading.device.type == "cuda")

    def _begin(self, load: _Load, slot: Slot, pool: ThreadPoolExecutor) -> _Filling:
        spec = self._store.spec
        rows = _rows_of(load.items)
        shape = (len(rows), spec.num_layers, load.num_frames, spec.num_tokens, spec.vision_width)
        videos = slot.videos.take(shape, torch.float16 if spec.dtype == "float16" else torch.int8)
        return _Filling(
            load=load,
            rows=rows,
            slot=slot,
            videos=videos,
            found=[pool.submit(self._fill, videos, *place) for place in enumerate(rows)],
            query=pool.submit(self._read_queries, load.items, slot.query),
        )

    def _fill(self, videos: Tensor, index: int, row: Row) -> tuple[StoredVideo, int]:
        """Read a video into its place of a batch; return what it is and the bytes it took."""
        target = videos[index]
        stored = self._located.get(row)
        is_new = stored is None
        if stored is None:
            stored = self._store.locate_video(row.video_id, frames=slice(0, row.num_frames))
            self._located[row] = stored
        target[:, row.num_frames :].zero_()
        place = target[:, : row.num_frames]
        if self._reading.cache is None:
            # Looked at for NaN once, which costs about 1 ms for each 10 MB read, not every epoch.
            stored.read_into(place.numpy(), trusted=not is_new)
            return stored, stored.num_bytes
        read_bytes = 0

        def read() -> Tensor:
            nonlocal read_bytes
            read_bytes = stored.num_bytes
            return torch.from_numpy(stored.read().tokens)

        place.copy_(self._reading.cache.get(row, read))
        return stored, read_bytes

    def _read_queries(self, items: list[Item], buffer: Buffer) -> tuple[Tensor, Tensor]:
        """Return the queries' padded tokens and their numbers of words."""
        tokens = [
            torch.from_numpy(self._store.read_query(item.annotation.query_id).tokens)
            for item in items
        ]
        num_words = torch.tensor([query.shape[1] for query in tokens])
        shape = (len(tokens), tokens[0].shape[0], int(num_words.max()), tokens[0].shape[2])
        return pad_second_axis(tokens, out=buffer.take(shape, tokens[0].dtype)), num_words


@dataclass(eq=False)
class _Filling:
    """A batch while threads fill it."""

    load: _Load
    rows: list[Row]
    slot: Slot
    videos: Tensor
    found: list[Future[tuple[StoredVideo, int]]]
    query: Future[tuple[Tensor, Tensor]]

    def batches(self) -> Generator[Batch]:
        """Wait until all is read; yield it with each of its labels."""
        found = [future.result() for future in self.found]
        query, num_words = self.query.result()
        items = self.load.items
        place = {row: index for index, row in enumerate(self.rows)}
        video_of_query = [place[item.row] for item in items]
        stored = [found[index][0] for index in video_of_query]
        batch = Batch(
            query_ids=tuple(item.annotation.query_id for item in items),
            videos=self.videos,
            video_of_query=torch.tensor(video_of_query),
            num_frames=torch.tensor([item.row.num_frames for item in items]),
            query=query,
            num_words=num_words,
            durations_seconds=float64_seconds([video.duration_seconds for video in stored]),
            frame_rates_fps=float64_seconds([video.frame_rate_fps for video in stored]),
            affine=self._affine([video for video, _ in found]),
            num_read_bytes=sum(num_bytes for _, num_bytes in found),
            rank_counts=self.load.rank_counts,
        )
        for labels in self.load.labels:
            yield replace(batch, targets=self._targets(labels))
            batch = replace(batch, num_read_bytes=0)
        if not self.load.labels:
            yield batch

    def _affine(self, stored: list[StoredVideo]) -> Tensor | None:
        affines = [
            np.stack([video.scale, video.offset])
            for video in stored
            if video.scale is not None and video.offset is not None
        ]
        if not affines:
            return None
        affine = self.slot.affine.take((len(affines), *affines[0].shape), torch.float32)
        return affine.copy_(torch.from_numpy(np.stack(affines)))

    def _targets(self, labels: list[Labels]) -> Targets | None:
        return collate_labels(labels, self.load.num_frames) if labels else None


def _rows_of(items: list[Item]) -> list[Row]:
    """Return the distinct rows that items read, in order of first use."""
    return list(dict.fromkeys(item.row for item in items))


def make_sample(video: VideoFeatures, query_tokens: np.ndarray, query_id: str) -> Sample:
    """Pair features of a video and a query; eight-bit tokens are decoded."""
    return Sample(
        query_id=query_id,
        video=torch.from_numpy(video.decoded()),
        query=torch.from_numpy(query_tokens),
        duration_seconds=video.duration_seconds,
        frame_rate_fps=video.frame_rate_fps,
    )
