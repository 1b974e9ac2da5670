"""Features kept in memory once they have been read, for stores that fit there.

Worth it where reading costs more than a copy in memory: a remote or packed store, or a GPU that
would otherwise wait for its bus. A local store in the operating system's page cache is read at the
speed of memory anyway.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from r2t.store.annotations import Annotation
from r2t.store.errors import ConfigError
from r2t.store.feature_store import FeatureStore
from r2t.store.machine import spare_bytes
from r2t.train.choices import CacheChoice, CacheKind
from r2t.train.data.sampling import Row
from r2t.train.data.transfer import CudaTransfer, Transfer

_USABLE = 0.8  # of the free memory; the rest is for the model and the batches
# What a training takes on a GPU, in batches of float16: its fastest step seven, the ring two.
_BATCHES_OF_A_STEP = 10


class ChosenCache(NamedTuple):
    """The cache of a training, None for none, and how the decision came about.

    All its features take `needed_bytes` at most, and `usable_bytes` may be used for them: 0 where
    there is no place to be considered.
    """

    cache: VideoCache | None
    needed_bytes: int
    usable_bytes: int


def choose_cache(
    choice: CacheChoice,
    store: FeatureStore,
    annotations: Iterable[Annotation],
    *,
    batch_size: int,
    device: torch.device,
    sharers: int = 1,
    transfer: Transfer | None = None,
) -> ChosenCache:
    """Return where the videos of these annotations are kept once they are read.

    "auto" keeps them on a GPU where all of them fit beside the steps of a training, and nowhere
    otherwise. The others are as for `VideoCache`, which refuses what does not fit once it is asked
    for room.
    """
    lengths, spec = store.lengths(), store.spec
    # A video has a row for each length that its saliency may cut it to.
    cuts = {
        (row.video_id, None if row.saliency is None else len(row.saliency.scores))
        for row in annotations
    }
    frames = [lengths.get(video_id, 0) for video_id, _ in cuts]
    needed_bytes = sum(frames) * spec.frame_bytes()
    on_gpu = device.type == "cuda" or transfer is not None
    if choice == "none" or (choice == "auto" and not on_gpu):
        return ChosenCache(None, needed_bytes, 0)
    if choice != "auto":
        cache = VideoCache(choice, device, sharers, transfer=transfer)
        return ChosenCache(cache, needed_bytes, cache.usable_bytes)
    frame_bytes = 2 * spec.num_layers * spec.num_tokens * spec.vision_width
    left_bytes = _BATCHES_OF_A_STEP * batch_size * max(frames, default=0) * frame_bytes
    cache = VideoCache("gpu", device, transfer=transfer, left_bytes=left_bytes)
    fits = needed_bytes <= cache.usable_bytes
    return ChosenCache(cache if fits else None, needed_bytes, cache.usable_bytes)


class VideoCache:
    """Videos by row, on the host or on a GPU. Nothing is ever evicted: room is reserved first.

    All that is reserved at a time is one block, in which videos lie without gaps. `sharers` is the
    number of processes on this machine that fill a cache each: they share its memory, but each has
    a GPU of its own. `transfer` is the way onto the GPU, None on the host. Reads from a
    cache on a GPU go through it too: its order keeps a video from being read before it is there.
    At least `left_bytes` of the free memory are left for others.
    """

    def __init__(
        self,
        kind: CacheKind,
        device: torch.device,
        sharers: int = 1,
        *,
        transfer: Transfer | None = None,
        left_bytes: int = 0,
    ) -> None:
        self.transfer: Transfer | None = None
        if kind == "gpu":
            if transfer is None and device.type != "cuda":
                raise ConfigError(
                    f"a cache on the GPU needs a GPU, but the device is {device}: use ram"
                )
            self.transfer = transfer or CudaTransfer(device)
        self.device = device if kind == "gpu" else torch.device("cpu")
        self.reserved_bytes = 0
        if self.transfer is None:
            free_bytes = spare_bytes() // sharers
        else:
            free_bytes = self.transfer.free_device_bytes()
        self.usable_bytes = max(0, min(int(_USABLE * free_bytes), free_bytes - left_bytes))
        self._videos: dict[Row, Tensor] = {}
        self._there: set[Row] = set()
        self._lock = threading.Lock()
        self._reading: dict[Row, threading.Lock] = {}

    def reserve(self, num_bytes: Mapping[Row, int]) -> None:
        """Make room for these rows beside those that have it already."""
        new = {row: size for row, size in num_bytes.items() if row not in self._videos}
        total = sum(new.values())
        if self.reserved_bytes + total > self.usable_bytes:
            raise ConfigError(
                f"the features take {(self.reserved_bytes + total) / 1e9:.2f} GB and "
                f"{self.usable_bytes / 1e9:.2f} GB may be used for them on {self.device.type}: "
                "train without a cache"
            )
        if not new:
            return
        self.reserved_bytes += total
        with torch.inference_mode(False):
            if self.transfer is None:
                block = torch.empty(total, dtype=torch.uint8)
            else:
                block = self.transfer.device_memory(total)
        self._videos |= zip(new, block.split(list(new.values())), strict=True)

    def __contains__(self, row: Row) -> bool:
        """Whether a row's features are there, or will be before work that is yet to be run."""
        return row in self._there

    def copy(
        self, row: Row, target: NDArray[Any], read_into: Callable[[NDArray[Any]], None]
    ) -> bool:
        """Copy features kept on the host; return whether they had to be read for it.

        They are read once, whoever else asks for them meanwhile.
        """
        with self._lock:
            lock = self._reading.setdefault(row, threading.Lock())
        features = self._videos[row].numpy().view(target.dtype).reshape(target.shape)
        with lock:
            absent = row not in self._there
            if absent:
                read_into(features)
                self._there.add(row)
        np.copyto(target, features)
        return absent

    def lay(self, rows: Sequence[Row], read: Mapping[Row, Tensor]) -> Callable[[Tensor], None]:
        """Return work for the stream of copies: to put rows into a batch's videos on the device.

        `read` are those of the rows that are read and not there yet; the work keeps them, and they
        count as there from now on.
        """
        self._there |= read.keys()

        def work(videos: Tensor) -> None:
            for target, row in zip(videos, rows, strict=True):
                kept = (
                    self._videos[row]
                    .view(videos.dtype)
                    .view(len(target), row.num_frames, *target.shape[2:])
                )
                if row in read:
                    kept.copy_(read[row], non_blocking=True)
                target[:, : row.num_frames].copy_(kept)
                target[:, row.num_frames :].zero_()

        return work
