"""Videos into batches: threads read the next ones while the model works on this one.

Bytes go from the store's files straight into a buffer of a ring, in the dtype they are stored in.
Whoever makes batches says which videos each has, and what it consists of besides.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from numpy.typing import NDArray
from torch import Tensor

from r2t.store.errors import ConfigError, R2TError, ReadingWarning
from r2t.store.feature_store import FeatureStore
from r2t.store.machine import allowed_cores
from r2t.store.video_reader import StoredVideo
from r2t.train.data.batch import Batch
from r2t.train.data.prior import Prior
from r2t.train.data.reading import Reading
from r2t.train.data.ring import Arena, BatchBuffer, BufferSize, FilledBuffer, KeptRing
from r2t.train.data.sampling import Row
from r2t.train.data.video_cache import VideoCache

_READ_THREADS = min(8, max(2, allowed_cores()))
_TASKS = 2 * _READ_THREADS  # of a batch; with one for each video, small videos wait for threads


@dataclass(frozen=True, eq=False)
class Loaded:
    """What was read for a batch.

    `stored` is what each of its videos is, or why it cannot be read; such a one is zeros.
    `affine` are the scales and offsets of eight-bit codes. `priors` are those of each video's
    queries, None where none are wanted or the video cannot be read. `hold` brings small tensors of
    the batch to the others, to be copied with them.
    """

    videos: Tensor
    stored: list[StoredVideo | R2TError]
    affine: Tensor | None
    priors: list[list[Prior] | None]
    num_read_bytes: int
    queries: tuple[Tensor, Tensor]
    hold: Callable[[Tensor], Tensor]

    def known(self) -> list[StoredVideo]:
        """Return what the videos are, where a reader raises if one cannot be read."""
        return [video for video in self.stored if isinstance(video, StoredVideo)]


@runtime_checkable
class Load(Protocol):
    """A batch that is to be read."""

    @property
    def rows(self) -> list[Row]:
        """Its videos, each once."""
        ...

    @property
    def num_frames(self) -> int:
        """What they are padded to."""
        ...

    def read_queries(self, arena: Arena) -> tuple[Tensor, Tensor]:
        """Return the queries' tokens, padded, and their numbers of words; a thread calls it."""
        ...

    def read_priors(self, row: Row, stored: StoredVideo) -> list[Prior] | None:
        """Return the prior of each of its queries about a row, or None; a thread calls it."""
        ...

    def finish(self, loaded: Loaded) -> list[Batch]:
        """Return the batches that these features make, one for each of their labels."""
        ...


class RowReader:
    """Reads the batches that it is given and keeps the memory that they pass through."""

    def __init__(self, store: FeatureStore, reading: Reading, *, tolerant: bool = False) -> None:
        self._store = store
        self._reading = reading
        self._tolerant = tolerant
        self._transfer = reading.way()
        self._located: dict[Row, StoredVideo] = {}
        self._warned = False
        self._ring = KeptRing(self._transfer)

    def read(self, loads: Iterator[Load], num_loads: int, size: BufferSize) -> Generator[Batch]:
        """Yield the batches of so many loads; the largest takes `size`."""
        return self._read(loads, self._ring_length(num_loads, size), size)

    def _read(self, loads: Iterator[Load], length: int, size: BufferSize) -> Generator[Batch]:
        if length:
            with self._ring.lent(length, size) as ring:
                yield from ring.deliver(self._filled(loads, ring.buffers[:length]))

    def _ring_length(self, num_loads: int, size: BufferSize) -> int:
        """Return how many batches of up to this size to hold, as far as memory allows."""
        if not num_loads:
            return 0
        limit_gb = self._reading.buffer_gb
        affordable = int(limit_gb * 1e9 / size.num_bytes)
        if affordable < 1:
            raise ConfigError(
                f"the largest batch takes {size.num_bytes / 1e9:.2f} GB and buffers are limited to "
                f"{limit_gb:g} GB: allow more, or make batches smaller"
            )
        wanted = min(self._reading.prefetch + 1, num_loads)
        if affordable < wanted and not self._warned:
            self._warned = True
            warnings.warn(
                f"{affordable - 1} of {wanted - 1} batches are read ahead: one takes up to "
                f"{size.num_bytes / 1e9:.2f} GB and buffers are limited to {limit_gb:g} GB",
                ReadingWarning,
                stacklevel=2,
            )
        return min(affordable, wanted)

    def _filled(
        self, loads: Iterator[Load], buffers: Sequence[BatchBuffer]
    ) -> Generator[FilledBuffer]:
        free, pending = deque(buffers), deque[_Filling]()
        pool = ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="r2t-read")
        try:
            while True:
                while free and (load := next(loads, None)) is not None:
                    coming = {row for filling in pending for row in filling.staged}
                    pending.append(self._begin(load, free.popleft(), coming, pool))
                if not pending:
                    return
                yield self._finish(pending[0])
                free.append(pending.popleft().buffer)
        finally:
            pool.shutdown(cancel_futures=True)

    def _begin(
        self, load: Load, buffer: BatchBuffer, coming: set[Row], pool: ThreadPoolExecutor
    ) -> _Filling:
        spec = self._store.spec
        rows, layers, width = load.rows, spec.num_layers, spec.vision_width
        buffer.clear()
        dtype = torch.float16 if spec.dtype == "float16" else torch.int8
        videos = buffer.videos.take(
            (len(rows), layers, load.num_frames, spec.num_tokens, width), dtype
        )
        affine = None
        if spec.dtype == "int8":
            affine = buffer.rest.take((len(rows), 2, layers, width), torch.float32)
        staged = self._staged(videos, rows, coming)
        targets, share = videos.numpy(), -(-len(rows) // _TASKS)
        return _Filling(
            load=load,
            buffer=buffer,
            videos=videos,
            affine=affine,
            staged=staged,
            found=[
                pool.submit(
                    self._read_rows, load, rows[i : i + share], targets[i : i + share], staged
                )
                for i in range(0, len(rows), share)
            ],
            queries=pool.submit(load.read_queries, buffer.rest),
        )

    def _staged(self, videos: Tensor, rows: list[Row], coming: set[Row]) -> dict[Row, Tensor]:
        """Return memory without gaps for rows that have to be brought into a cache on the device.

        They share the memory of the batch, whose videos are put together on the device.
        """
        cache = self._device_cache
        if cache is None:
            return {}
        missing = [row for row in rows if row not in cache and row not in coming]
        layers, _, *frame = videos.shape[1:]
        sizes = [layers * row.num_frames * math.prod(frame) for row in missing]
        parts = videos.flatten()[: sum(sizes)].split(sizes)
        return {
            row: part.view(layers, row.num_frames, *frame)
            for row, part in zip(missing, parts, strict=True)
        }

    @property
    def _device_cache(self) -> VideoCache | None:
        cache = self._reading.cache
        return None if cache is None or cache.transfer is None else cache

    def _read_rows(
        self, load: Load, rows: Sequence[Row], targets: NDArray[Any], staged: Mapping[Row, Tensor]
    ) -> list[_Found]:
        pairs = zip(rows, targets, strict=True)
        return [self._read_row(load, row, target, staged) for row, target in pairs]

    def _read_row(
        self, load: Load, row: Row, target: NDArray[Any], staged: Mapping[Row, Tensor]
    ) -> _Found:
        """Read a video into its part of a batch.

        Arrays, not tensors: each of torch's copies would call for all cores, from every thread.
        """
        try:
            known = self._located.get(row)
            frames = slice(row.first_frame, row.first_frame + row.num_frames)
            stored = known or self._store.locate_video(row.video_id, frames=frames)
            # Looked at for NaN once, which costs about 1 ms for each 10 MB read, not every epoch.
            num_bytes = self._read_into(target, row, stored, staged, trusted=known is not None)
            priors = load.read_priors(row, stored)
        except R2TError as error:
            if not self._tolerant:
                raise
            target[:] = 0
            return _Found(error)
        self._located[row] = stored
        return _Found(stored, num_bytes, priors)

    def _read_into(
        self,
        target: NDArray[Any],
        row: Row,
        stored: StoredVideo,
        staged: Mapping[Row, Tensor],
        *,
        trusted: bool,
    ) -> int:
        if self._device_cache is not None:
            if row not in staged:
                return 0
            stored.read_into(staged[row].numpy())
            return stored.num_bytes
        target[:, row.num_frames :] = 0
        target = target[:, : row.num_frames]
        if self._reading.cache is not None:
            read = self._reading.cache.copy(row, target, stored.read_into)
            return stored.num_bytes if read else 0
        stored.read_into(target, trusted=trusted)
        return stored.num_bytes

    def _finish(self, filling: _Filling) -> FilledBuffer:
        """Wait until all of a batch is read."""
        found = [each for future in filling.found for each in future.result()]
        stored = [each.stored for each in found]
        if filling.affine is not None:
            for affine, video in zip(filling.affine.numpy(), stored, strict=True):
                known = isinstance(video, StoredVideo)
                affine[:] = [video.scale, video.offset] if known else 0
        loaded = Loaded(
            videos=filling.videos,
            stored=stored,
            affine=filling.affine,
            priors=[each.priors for each in found],
            num_read_bytes=sum(each.num_bytes for each in found),
            queries=filling.queries.result(),
            # On the host nothing is gained by having all tensors side by side.
            hold=_as_it_is if self._transfer is None else filling.buffer.hold,
        )
        lay = None
        if self._device_cache is not None:
            lay = self._device_cache.lay(filling.load.rows, filling.staged)
        return FilledBuffer(filling.buffer, filling.load.finish(loaded), lay)


class _Found(NamedTuple):
    """What a thread has read of a video, or why it could not."""

    stored: StoredVideo | R2TError
    num_bytes: int = 0
    priors: list[Prior] | None = None


@dataclass(frozen=True, eq=False)
class _Filling:
    """A batch while threads fill it; `staged` is what is read for a cache on the device."""

    load: Load
    buffer: BatchBuffer
    videos: Tensor
    affine: Tensor | None
    staged: dict[Row, Tensor]
    found: list[Future[list[_Found]]]
    queries: Future[tuple[Tensor, Tensor]]


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor
