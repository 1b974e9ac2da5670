"""The way of features onto the device: the same bytes as on the CPU, in memory that stays the same.

The consumer is slow: it works on the device before it looks at a batch, so that memory which is
used again too early shows. Sums of every frame's bytes stand for the features; all else is compared
as it is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from gpu_check.inputs import store_path
from gpu_check.measuring import free_memory, seconds_of
from gpu_check.names import way_name
from gpu_check.report import Report
from gpu_check.setting import Setting
from r2t.store import FeatureStore
from r2t.store.schema import StorageDtype
from r2t.train.choices import CacheKind, SampleOrder
from r2t.train.data.batch import Batch
from r2t.train.data.reader import FeatureReader
from r2t.train.data.reading import Reading
from r2t.train.data.sampling import EpochOrder
from r2t.train.data.video_cache import VideoCache

EPOCHS = 4
ALLOCATOR_BYTES = 64 * 2**20  # three of its blocks; a batch takes several times as much
CACHES: tuple[CacheKind | None, ...] = (None, "ram", "gpu")
Seen = tuple[tuple[str, ...], list[Tensor]]


@dataclass(frozen=True)
class Way:
    """One way to read."""

    cache: CacheKind | None
    dtype: StorageDtype
    sampling: SampleOrder

    def __str__(self) -> str:
        return way_name(self.cache, self.dtype, self.sampling)

    def reader(self, setting: Setting, device: torch.device) -> FeatureReader:
        """Read the training queries of a store."""
        store = FeatureStore.open(store_path(setting.folder, self.dtype))
        cache = None if self.cache is None else VideoCache(self.cache, device)
        return FeatureReader(
            store,
            store.annotations(),
            batch_size=setting.sizes.ring_batch,
            positive="above_zero",
            order=EpochOrder(sampling=self.sampling, repeats=2),
            reading=Reading(device=device, cache=cache),
        )


def run(setting: Setting, report: Report) -> None:
    """Compare every way with reading on the CPU."""
    dtypes: tuple[StorageDtype, ...] = get_args(StorageDtype)
    samplings: tuple[SampleOrder, ...] = get_args(SampleOrder)
    for dtype in dtypes:
        for sampling in samplings:
            plain = Way(None, dtype, sampling).reader(setting, torch.device("cpu"))
            expected = [[seen(batch) for batch in plain.epoch(n)] for n in range(EPOCHS)]
            for cache in CACHES:
                way = Way(cache, dtype, sampling)
                if cache == "gpu" and not setting.on_gpu:
                    report.unavailable(str(way), "of a GPU only")
                    continue
                report.verify(
                    str(way), lambda way=way, known=expected: _compare(setting, report, way, known)
                )


def _compare(setting: Setting, report: Report, way: Way, expected: list[list[Seen]]) -> None:
    free_memory(setting.device)  # what earlier ways left would hide what this one takes
    reader = way.reader(setting, setting.device)
    wrong: list[str] = []
    reserved: list[int] = []
    for epoch, known in enumerate(expected):
        found = [seen_slowly(setting, batch) for batch in reader.epoch(epoch)]
        if len(found) != len(known):
            wrong.append(f"{len(found)} batches of {len(known)} in epoch {epoch}")
        wrong += [
            f"batch {number} of epoch {epoch}"
            for number, (mine, truth) in enumerate(zip(found, known, strict=False))
            if not _same(mine, truth)
        ]
        del found
        if setting.on_gpu:
            reserved.append(torch.cuda.memory_reserved(setting.device))
    total = sum(len(known) for known in expected)
    text = f"{total} batches in {EPOCHS} epochs as on the CPU"
    if wrong:
        text = f"{len(wrong)} of them differ, such as {wrong[0]}"
    report.check(f"{way}: bytes", text, holds=not wrong)
    if reserved:
        grown = max(reserved[1:]) - reserved[0]
        text = f"{reserved[0] / 1e9:.2f} GB reserved, {grown / 1e9:+.3f} after the first epoch"
        report.check(f"{way}: memory", text, holds=grown <= ALLOCATOR_BYTES)
    num_bytes = 0

    def read() -> None:
        nonlocal num_bytes
        num_bytes = sum(batch.videos.nbytes for batch in reader.epoch(EPOCHS))

    seconds = seconds_of(read, setting.device)
    report.measure(f"{way}: rate", num_bytes / seconds / 1e9, "GB/s", "of what batches hold")


def seen_slowly(setting: Setting, batch: Batch) -> Seen:
    """Keep the device busy, then look at a batch."""
    if setting.on_gpu:
        busy = torch.ones(4096, 4096, device=setting.device, dtype=torch.float16)
        for _ in range(40):
            busy = busy @ busy * 0
    else:
        time.sleep(0.001)
    return seen(batch)


def seen(batch: Batch) -> Seen:
    """Return what identifies a batch, without waiting for the device."""
    assert batch.targets is not None
    videos = batch.videos.flatten(3).view(torch.int32).sum(dim=-1, dtype=torch.int64)
    small = [
        batch.video_of_query,
        batch.num_frames,
        batch.query,
        batch.num_words,
        batch.targets.moments,
        batch.targets.saliency,
        batch.targets.positive_frame,
    ]
    if batch.affine is not None:
        small.append(batch.affine)
    return batch.query_ids, [videos, *(tensor.clone() for tensor in small)]


def _same(mine: Seen, truth: Seen) -> bool:
    return mine[0] == truth[0] and all(
        torch.equal(ours.cpu(), other) for ours, other in zip(mine[1], truth[1], strict=True)
    )
