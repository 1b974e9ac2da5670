"""Does reading a store keep up with plain files, and with the machine?

    python benchmarks/reader.py [--size paper|demo] [--rounds N] [--folder DIR] [--no-loaders]

One run reads an epoch of four passes over the samples, in turns, in these ways:

    loader 0, loader 2   the field's way: a DataLoader with so many workers over .npy files
                         [frames, layers, tokens, width], padded with +inf by the collate function
    r2t                  `FeatureReader` over a store of the same features
    bare                 threads that only `preadv` the store's bytes into reused buffers
    r2t, by video        the same in the order of `--sampling video`, where a batch is given four
                         times in a row and read once
    bare, by video       `preadv` of what that order reads

The first four read the same batches in the same order. The data, by default 64 videos of up to 75
frames of ViT-B/32 in float16, are made once and lie in the page cache, so this measures what
software costs. First it is checked that all batches are the same, bit for bit. No batch is worked
on: how much of the reading a model hides is `r2t train`'s to say.

Where other programs keep the cores busy, believe the seconds of processors rather than the clock;
those of a loader's workers are not known. The buffers of `bare` lie at multiples of 64 bytes, as
r2t's do: those of `numpy.ones` do not, and take up to twice as long to be read into.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from toy_store import random_query, random_spec, random_video, write_video

from r2t.store import Annotation, FeatureSpec, FeatureStore, QueryFeatures, VideoSource
from r2t.store.format.shards import read_ranges
from r2t.store.machine import allowed_cores
from r2t.store.video_reader import StoredVideo
from r2t.train.choices import SampleOrder
from r2t.train.data.batch import Batch
from r2t.train.data.reader import FeatureReader
from r2t.train.data.sampling import EpochOrder

WORDS = 14
REPEATS = 4
THREADS, BUFFERS = 2, 3


@dataclass(frozen=True)
class Size:
    """How many videos of how many frames there are, what their features are, and a batch."""

    spec: FeatureSpec
    num_videos: int
    num_frames: int
    batch_size: int

    def frames_of(self, video: int) -> int:
        """Let some videos be shorter, so that there is padding."""
        return self.num_frames * 4 // 5 if video % 8 == 7 else self.num_frames


SIZES = {
    "paper": Size(random_spec(), num_videos=64, num_frames=75, batch_size=16),
    "demo": Size(
        random_spec(num_tokens=17, vision_width=128, text_width=64, image_size=64),
        num_videos=320,
        num_frames=36,
        batch_size=32,
    ),
}


def make_data(folder: Path, size: Size) -> FeatureStore:
    """Write the features as a store and as files, unless they are there."""
    spec = size.spec
    store = FeatureStore.create(folder / "feats.zarr", spec)
    if len(store.videos) == size.num_videos:
        return store
    generator = np.random.default_rng(0)
    files = folder / "npy"
    files.mkdir(exist_ok=True)
    annotations: list[Annotation] = []
    queries: list[QueryFeatures] = []
    with store.writer() as writer:
        for video in range(size.num_videos):
            name = f"v{video}"
            tokens = random_video(generator, spec, size.frames_of(video))
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


def make_reader(store: FeatureStore, size: Size, sampling: SampleOrder) -> FeatureReader:
    """Make the product's reader."""
    return FeatureReader(
        store,
        store.annotations(),
        batch_size=size.batch_size,
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


@dataclass(frozen=True)
class Pass:
    """What it took to go through an epoch; `cpu_seconds` are those of all threads."""

    seconds: float
    cpu_seconds: float


def go_through(batches: Iterator[Any]) -> Pass:
    """Go through an epoch."""
    began, used = time.perf_counter(), time.process_time()
    deque(batches, maxlen=0)
    return Pass(time.perf_counter() - began, time.process_time() - used)


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Write the median and, in brackets, the extremes."""
    found = list(values)
    middle, low, high = statistics.median(found), min(found), max(found)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="paper")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "r2t-reader")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-loaders", action="store_true", help="leave out the field's way")
    options = parser.parse_args()
    folder, size = options.folder / options.size, SIZES[options.size]
    folder.mkdir(parents=True, exist_ok=True)
    store = make_data(folder, size)
    uniform, by_video = (make_reader(store, size, sampling) for sampling in ("uniform", "video"))
    names, names_by_video = ([b.query_ids for b in each.epoch(0)] for each in (uniform, by_video))
    files = Files(folder / "npy")
    for reader, ids in ((uniform, names), (by_video, names_by_video)):
        for ours, theirs in zip(reader.epoch(0), make_loader(files, ids, 0), strict=True):
            require_same(ours, theirs)
    stored = {str(name): store.locate_video(str(name)) for name in store.videos["video_id"]}
    room = size.batch_size * max(video.num_bytes for video in stored.values())
    buffers = [torch.ones(room, dtype=torch.uint8).numpy() for _ in range(BUFFERS)]
    once = [batch for batch, _ in groupby(names_by_video)]
    contenders: dict[str, Callable[[], Iterator[Any]]] = {
        "r2t": lambda: uniform.epoch(0),
        "bare": lambda: bare_ring(names, stored, buffers),
        "r2t, by video": lambda: by_video.epoch(0),
        "bare, by video": lambda: bare_ring(once, stored, buffers),
    }
    if not options.no_loaders:
        loaders = {f"loader {count}": make_loader(files, names, count) for count in (0, 2)}
        contenders |= {name: partial(iter, loader) for name, loader in loaders.items()}
    passes: dict[str, list[Pass]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, batches in contenders.items():
            passes[name].append(go_through(batches()))
    num_bytes = sum(video.num_bytes for video in stored.values())
    print(
        f"{len(names)} batches of {size.batch_size} samples, "
        f"{size.batch_size * num_bytes / size.num_videos / 1e9:.3f} GB each, the same bit for bit; "
        f"{options.rounds} rounds in turns; {allowed_cores()} cores, load "
        f"{os.getloadavg()[0]:.1f}, torch {torch.__version__}\n"
        "median (lowest-highest) of the rounds; ratios are taken within each round, above 1 is "
        "better; GB/s counts what the batches hold\n"
    )
    print_table(passes, REPEATS * size.num_videos, REPEATS * num_bytes / 1e9)


def print_table(passes: dict[str, list[Pass]], num_samples: int, gigabytes: float) -> None:
    """Print a line for each way to read."""
    peers = [name for name in ("loader 0", "loader 2") if name in passes]
    columns = ["samples/s", "GB/s", "CPU us/sample", "to bare", "to bare, CPU"]
    print(f"{'':15}" + "".join(f"{name:>22}" for name in [*columns, *(f"to {p}" for p in peers)]))
    for name, own in passes.items():
        bare = passes["bare, by video" if "by video" in name else "bare"]
        known = name != "loader 2"
        cells = [
            spread((num_samples / each.seconds for each in own), 0),
            f"{gigabytes / statistics.median(each.seconds for each in own):.2f}",
            spread((1e6 * each.cpu_seconds / num_samples for each in own), 0) if known else "-",
            spread(b.seconds / a.seconds for a, b in zip(own, bare, strict=True)),
            spread(b.cpu_seconds / a.cpu_seconds for a, b in zip(own, bare, strict=True))
            if known
            else "-",
        ]
        cells += [
            spread(b.seconds / a.seconds for a, b in zip(own, passes[peer], strict=True))
            for peer in peers
        ]
        print(f"{name:15}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main()
