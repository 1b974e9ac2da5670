"""Does reading a store keep up with plain files, and with the machine?

    python benchmarks/reader.py [--folder DIR] [--rounds N]

One run reads an epoch of four passes over the samples, in turns, in these ways:

    loader 0, loader 2   the field's way: a DataLoader with so many workers over .npy files
                         [frames, layers, tokens, width], padded with +inf by the collate function
    r2t                  `FeatureReader` over a store of the same features
    bare                 threads that only `preadv` the store's bytes into reused buffers
    r2t, by video        the same in the order of `--sampling video`, where a batch is given four
                         times in a row and read once
    bare, by video       `preadv` of what that order reads

The first four read the same batches in the same order. The data, 64 videos of up to 75 frames of
ViT-B/32 in float16, are made once and lie in the page cache, so this measures what software costs.
First it is checked that all batches are the same, bit for bit. No batch is worked on: how much of
the reading a model hides is `r2t train`'s to say.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from toy_store import random_query, random_spec, random_video, write_video

from r2t.store import Annotation, FeatureStore, QueryFeatures, VideoSource
from r2t.store.format.shards import read_ranges
from r2t.store.machine import allowed_cores
from r2t.store.video_reader import StoredVideo
from r2t.train.choices import SampleOrder
from r2t.train.data.batch import Batch
from r2t.train.data.reader import FeatureReader
from r2t.train.data.sampling import EpochOrder

WORDS = 14
NUM_VIDEOS, BATCH_SIZE, REPEATS = 64, 16, 4
THREADS, BUFFERS = 2, 3


def num_frames(video: int) -> int:
    """Let some videos be shorter, so that there is padding."""
    return 60 if video % 8 == 7 else 75


def make_data(folder: Path) -> FeatureStore:
    """Write the features as a store and as files, unless they are there."""
    spec = random_spec()
    store = FeatureStore.create(folder / "feats.zarr", spec)
    if len(store.videos) == NUM_VIDEOS:
        return store
    generator = np.random.default_rng(0)
    files = folder / "npy"
    files.mkdir(exist_ok=True)
    annotations: list[Annotation] = []
    queries: list[QueryFeatures] = []
    with store.writer() as writer:
        for video in range(NUM_VIDEOS):
            name = f"v{video}"
            tokens = random_video(generator, spec, num_frames(video))
            source = VideoSource(name=f"{name}.mp4", num_bytes=1, sha256="0", decoder="none")
            write_video(writer, name, tokens, source=source)
            query = random_query(generator, spec, name, WORDS)
            np.save(files / f"{name}.npy", np.swapaxes(tokens, 0, 1))
            np.save(files / f"{name}-query.npy", np.swapaxes(query.tokens, 0, 1))
            queries.append(query)
            moments = np.array([[4.0, 20.0]])
            annotations.append(Annotation(name, name, "sentence", moments, split="train"))
        writer.add_queries(annotations, queries)
    store.refresh()
    return store


class Files(Dataset[dict[str, torch.Tensor]]):
    """One .npy file a video and one a query."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, name: str) -> dict[str, torch.Tensor]:
        return {
            "video": torch.from_numpy(np.load(self.folder / f"{name}.npy")),
            "query": torch.from_numpy(np.load(self.folder / f"{name}-query.npy")),
        }


def pad_collate(samples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Pad with +inf, by which the model later finds what is padding."""
    return {
        name: torch.nn.utils.rnn.pad_sequence(
            [sample[name] for sample in samples], batch_first=True, padding_value=float("inf")
        )
        for name in ("video", "query")
    }


def bare_ring(
    names: list[tuple[str, ...]], stored: dict[str, StoredVideo], buffers: list[np.ndarray]
) -> Iterator[None]:
    """Read the bytes of batches into reused buffers, as fast as threads can, and nothing else."""
    free = deque(buffers)
    waiting, pending = deque(names), deque[tuple[np.ndarray, list[Future[None]]]]()
    with ThreadPoolExecutor(THREADS) as pool:
        while waiting or pending:
            while free and waiting:
                buffer, futures, start = free.popleft(), [], 0
                for name in waiting.popleft():
                    video = stored[name]
                    place = buffer[start : start + video.num_bytes].data
                    futures.append(pool.submit(read_ranges, video.ranges or [], place))
                    start += video.num_bytes
                pending.append((buffer, futures))
            buffer, futures = pending.popleft()
            for future in futures:
                future.result()
            yield None
            free.append(buffer)


def require_same(ours: Batch, theirs: dict[str, torch.Tensor]) -> None:
    """Raise unless a batch of ours holds exactly what the field's batch holds."""
    for mine, other, lengths in (
        (ours.video, theirs["video"], ours.num_frames),
        (ours.query, theirs["query"], ours.num_words),
    ):
        padding = torch.isinf(other.flatten(2)[:, :, 0])
        if not torch.equal((~padding).sum(1), lengths):
            raise SystemExit("the batches differ in length")
        if not torch.equal(mine.transpose(1, 2), torch.where(torch.isinf(other), 0, other)):
            raise SystemExit("the batches differ")


def make_reader(store: FeatureStore, sampling: SampleOrder) -> FeatureReader:
    """Make the product's reader."""
    return FeatureReader(
        store,
        store.annotations(),
        batch_size=BATCH_SIZE,
        positive="above_zero",
        order=EpochOrder(repeats=REPEATS, sampling=sampling),
    )


def make_loader(files: Files, names: list[tuple[str, ...]], num_workers: int) -> DataLoader[Any]:
    """Make the field's reader of the same batches."""
    return DataLoader(
        files,
        batch_sampler=[list(batch) for batch in names],
        collate_fn=pad_collate,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )


def seconds_of(batches: Iterator[Any]) -> float:
    """Go through an epoch."""
    began = time.perf_counter()
    deque(batches, maxlen=0)
    return time.perf_counter() - began


def spread(values: list[float], digits: int) -> str:
    """Write the median and, in brackets, the extremes."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "r2t-reader")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    store = make_data(options.folder)
    reader, by_video = make_reader(store, "uniform"), make_reader(store, "video")
    names = [batch.query_ids for batch in reader.epoch(0)]
    names_by_video = [batch.query_ids for batch in by_video.epoch(0)]
    once = [batch for batch, _ in groupby(names_by_video)]
    files = Files(options.folder / "npy")
    loaders = {workers: make_loader(files, names, workers) for workers in (0, 2)}
    for ring, loader in (
        *((reader, loader) for loader in loaders.values()),
        (by_video, make_loader(files, names_by_video, 0)),
    ):
        for ours, theirs in zip(ring.epoch(0), loader, strict=True):
            require_same(ours, theirs)
    stored = {str(name): store.locate_video(str(name)) for name in store.videos["video_id"]}
    size = BATCH_SIZE * max(video.num_bytes for video in stored.values())
    buffers = [np.ones(size, np.uint8) for _ in range(BUFFERS)]
    contenders: dict[str, Callable[[], Iterator[Any]]] = {
        "loader 0": lambda: iter(loaders[0]),
        "loader 2": lambda: iter(loaders[2]),
        "r2t": lambda: reader.epoch(0),
        "bare": lambda: bare_ring(names, stored, buffers),
        "r2t, by video": lambda: by_video.epoch(0),
        "bare, by video": lambda: bare_ring(once, stored, buffers),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, batches in contenders.items():
            rates[name].append(len(names) / seconds_of(batches()))
    batch_gb = BATCH_SIZE * sum(video.num_bytes for video in stored.values()) / NUM_VIDEOS / 1e9
    print(
        f"{len(names)} batches of {BATCH_SIZE} samples, {batch_gb:.3f} GB each, the same bit for "
        f"bit; {options.rounds} rounds in turns; {allowed_cores()} cores, "
        f"torch {torch.__version__}\n"
        "median (lowest-highest) of the rounds; ratios are taken within each round; GB/s counts "
        "what the batches hold\n"
    )
    print(
        f"{'':15}{'batches/s':>24}{'GB/s':>8}{'to loader 0':>22}{'to loader 2':>22}{'to bare':>20}"
    )
    for name, values in rates.items():
        peers = ("loader 0", "loader 2", "bare, by video" if "by video" in name else "bare")
        ratios = [
            spread([own / other for own, other in zip(values, rates[peer], strict=True)], 2)
            for peer in peers
        ]
        speed = statistics.median(values) * batch_gb
        print(
            f"{name:15}{spread(values, 2):>24}{speed:8.2f}"
            f"{ratios[0]:>22}{ratios[1]:>22}{ratios[2]:>20}"
        )


if __name__ == "__main__":
    main()
