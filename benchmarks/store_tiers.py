"""What does each tier of a store take on the disk, and how fast is it read, beside `.npy` files?

The peer is the layout in which the official implementation keeps features: one `.npy` file a video,
float16 [frames, layers, tokens, width] of four layers and all 50 tokens of ViT-B/32, read whole by
`numpy.load`. A tier is a storage dtype, the last K layers, and all tokens or CLS alone. Features
are random; every tier and the peer take turns, all files lie in the page cache, one thread reads.

    python benchmarks/store_tiers.py [--videos 6] [--repeats 9] [--folder DIR]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from toy_store import random_spec, random_video, write_video

from r2t.store import FeatureStore, VideoSource

FRAMES, TOKENS = 75, 50
SOURCE = VideoSource(name="random.mp4", num_bytes=1, sha256="0" * 64, decoder="none")
Dtype = Literal["float16", "int8"]


def video_of(seed: int) -> NDArray[np.float16]:
    """Return a video's tokens, [layers, frames, tokens, width], of which a tier keeps its part."""
    return random_video(np.random.default_rng(seed), random_spec(), FRAMES)


def make_store(folder: Path, dtype: Dtype, layers: int, tokens: int, num_videos: int) -> None:
    """Write a store of one tier."""
    spec = random_spec(layers=range(13 - layers, 13), num_tokens=tokens, dtype=dtype)
    with FeatureStore.create(folder, spec).writer() as writer:
        for number in range(num_videos):
            tokens_of_tier = video_of(number)[-layers:, :, :tokens]
            write_video(writer, str(number), tokens_of_tier, source=SOURCE)


def disk_bytes(folder: Path) -> int:
    """Return the bytes of all files of the videos, metadata included."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def npy_reader(folder: Path, num_videos: int) -> Callable[[], None]:
    """Return what reads all videos of the peer."""

    def read() -> None:
        for number in range(num_videos):
            np.load(folder / f"{number}.npy")

    return read


def store_reader(folder: Path, num_videos: int) -> Callable[[], None]:
    """Return what reads all videos of a tier, as training does: look up, then read."""
    store = FeatureStore.open(folder)

    def read() -> None:
        for number in range(num_videos):
            store.read_video(str(number))

    return read


def ring_reader(folder: Path, num_videos: int) -> Callable[[], None]:
    """Return what reads into memory that is there already, found once."""
    store = FeatureStore.open(folder)
    found = [store.locate_video(str(number)) for number in range(num_videos)]
    buffer: Any = np.empty(found[0].shape, found[0].dtype)
    buffer[...] = 0

    def read() -> None:
        for video in found:
            video.read_into(buffer)

    return read


def main() -> None:
    """Print a table of sizes and of read times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as work:
        compare(Path(work), given.videos, given.repeats)


def compare(work: Path, num_videos: int, repeats: int) -> None:
    """Make all tiers, read them in turns, and print."""
    peer = work / "npy"
    peer.mkdir()
    for number in range(num_videos):
        np.save(peer / f"{number}.npy", video_of(number).swapaxes(0, 1))
    sizes = {"official .npy": disk_bytes(peer)}
    readers = {"official .npy": (npy_reader(peer, num_videos), npy_reader(peer, num_videos))}
    dtypes: tuple[Dtype, ...] = ("float16", "int8")
    for dtype, layers, tokens in itertools.product(dtypes, (4, 2, 1), (TOKENS, 1)):
        name = f"{dtype} K={layers} {'all tokens' if tokens > 1 else 'CLS'}"
        folder = work / name
        make_store(folder, dtype, layers, tokens, num_videos)
        sizes[name] = disk_bytes(folder / "videos")
        readers[name] = store_reader(folder, num_videos), ring_reader(folder, num_videos)
    # A partial read of the full tier: the last two layers, without a store of their own.
    full = FeatureStore.open(work / "float16 K=4 all tokens")

    def read_part() -> None:
        for number in range(num_videos):
            full.read_video(str(number), layers=slice(-2, None))

    sizes["last 2 of 4 layers"] = sizes["float16 K=4 all tokens"]
    readers["last 2 of 4 layers"] = read_part, read_part
    times: dict[str, list[list[float]]] = {name: [[], []] for name in readers}
    for _ in range(repeats + 1):  # the first round brings all files into the page cache
        for name, pair in readers.items():
            for read, found in zip(pair, times[name], strict=True):
                start = time.perf_counter()
                read()
                found.append(1000 * (time.perf_counter() - start) / num_videos)
    base = [statistics.median(found[1:]) for found in times["official .npy"]]
    print(f"{num_videos} videos of {FRAMES} frames, {repeats} rounds; ms per video, median (range)")
    print(
        f"{'':26} {'MB/video':>8} {'smaller':>8}  {'read':>22} {'faster':>7}  {'into a ring':>22}"
    )
    for name, (whole, ring) in times.items():
        megabytes = sizes[name] / num_videos / 1e6
        smaller = sizes["official .npy"] / sizes[name]
        faster = base[0] / statistics.median(whole[1:])
        print(
            f"{name:26} {megabytes:8.3f} {smaller:7.2f}x  {spread(whole[1:]):>22} {faster:6.2f}x  "
            f"{spread(ring[1:]):>22}"
        )


def spread(times: list[float]) -> str:
    """Write median and range."""
    return f"{statistics.median(times):.2f} ({min(times):.2f}-{max(times):.2f})"


if __name__ == "__main__":
    main()
