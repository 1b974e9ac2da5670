"""How many frames a second do the stages around decoding and CLIP get done, each for a core?

Decoders and CLIP are stood in for by ones that cost nothing: frames and features lie in memory. So
this is what bounds an extraction whose GPU and decoders are fast enough, at the size of ViT-B/32's
features (307 kB a frame in float16). One after another in every round, for each dtype:
  hand over   frames from decoding processes through their pipes, and no more
  write       features from memory into a committed store, by one thread and by several
  all         frames from decoding processes, through the lanes of CLIP, into a committed store
Frames for each CPU second say what a core does; they hold on a busy machine too.

    python benchmarks/extract_stages.py --videos 40 --rounds 5 --writers 1 2
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args
from unittest.mock import patch

import numpy as np
import torch

from r2t.extract.clip.clip import FrozenClip
from r2t.extract.clip.embedding import EncodedFrames
from r2t.extract.run.local_run import decode_ahead, encode_ahead
from r2t.extract.run.one_video import (
    FramesDecoded,
    FramesEncoded,
    VideoDecoded,
    VideoEnd,
    VideoJob,
    in_turns,
)
from r2t.extract.run.progress import StageClock, Tally
from r2t.extract.run.writing import WritingThreads
from r2t.extract.video import decode_process
from r2t.extract.video.decode_pool import DecodePool
from r2t.extract.video.windows import FrameWindows
from r2t.store.feature_store import FeatureStore
from r2t.store.features import VideoSource
from r2t.store.machine import allowed_cores
from r2t.store.schema import EmbeddingSpec, FeatureSpec, StorageDtype

WINDOW = 75  # frames: a video of 150 s at 0.5 fps
SIDE = 224
LAYERS, TOKENS, WIDTH, EMBEDDING_WIDTH = (9, 10, 11, 12), 50, 768, 512
WINDOWS_HELD = 12

# A decoding process that has decoded everything before it is asked.
DECODER = f"""
import json, sys
out = sys.stdout.buffer
pixels = bytes(range(256)) * ({WINDOW} * 3 * {SIDE} * {SIDE} // 256)
def say(**message):
    out.write(json.dumps(message).encode() + b"\\n")
say(ready=True)
out.flush()
for line in sys.stdin.buffer:
    batch = dict(duration_seconds={2.0 * WINDOW}, first_frame=0, num_video_frames={WINDOW},
                 decoder="none", decode_seconds=0.0)
    times = [2.0 * frame for frame in range({WINDOW})]
    say(batch=batch, timestamps_seconds=times, shape=[{WINDOW}, 3, {SIDE}, {SIDE}])
    out.write(pixels)
    say(done=True)
    out.flush()
"""


@dataclass
class Series:
    """Seconds of one way in every round, on the clock and of all processors."""

    walls: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)

    def measure(self, way: Callable[[], object]) -> None:
        """Run and record."""
        work, began = cpu_seconds(), time.perf_counter()
        way()
        self.walls.append(time.perf_counter() - began)
        self.work.append(cpu_seconds() - work)

    def line(self, name: str, num_frames: int) -> str:
        """Return a row of the table."""
        rates = sorted(num_frames / wall for wall in self.walls)
        by_core = num_frames / statistics.median(self.work)
        return (
            f"| {name} | {statistics.median(rates):.0f} | {rates[0]:.0f} to {rates[-1]:.0f} | "
            f"{by_core:.0f} |"
        )


class NoClip(FrozenClip):
    """Features of a whole window that were computed before it came."""

    def __init__(self, seed: int = 0) -> None:
        self.device = torch.device("cpu")
        rng = np.random.default_rng(seed)
        shape = (len(LAYERS), WINDOW, TOKENS, WIDTH)
        embedding = rng.standard_normal((WINDOW, EMBEDDING_WIDTH), np.float32)
        embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
        tokens = (2 * rng.standard_normal(shape, np.float32)).astype(np.float16)
        self.features = EncodedFrames(tokens, embedding.astype(np.float16))

    def encode_frames(self, pixels: np.ndarray) -> EncodedFrames:
        """Return them."""
        assert len(pixels) == WINDOW
        return self.features


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def jobs_of(num_videos: int) -> list[VideoJob]:
    """Return jobs that nothing is read for but a file's digest."""
    return [VideoJob(f"video-{number}", Path(__file__), 0.5) for number in range(num_videos)]


def open_store(folder: str, dtype: StorageDtype) -> FeatureStore:
    """Return an empty store of ViT-B/32's features."""
    spec = FeatureSpec(
        model="none",
        weights_sha256="0" * 64,
        vision_layers=LAYERS,
        text_layers=LAYERS,
        frame_rate=0.5,
        num_tokens=TOKENS,
        vision_width=WIDTH,
        text_width=512,
        image_size=SIDE,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        dtype=dtype,
    )
    embedding = EmbeddingSpec(width=EMBEDDING_WIDTH)
    return FeatureStore.create(Path(folder) / "feats.zarr", spec, embedding=embedding)


def hand_over(jobs: list[VideoJob], num_decoders: int) -> Iterator[FramesDecoded | VideoEnd]:
    """Yield the frames of every video and give their windows back."""
    windows = FrameWindows(WINDOWS_HELD)
    pool = DecodePool(num_decoders, size=SIDE, window=WINDOW, windows=windows)
    with closing(decode_ahead(pool, in_turns(jobs), num_threads=num_decoders)) as decoded:
        for event in decoded:
            yield event
            if isinstance(event, FramesDecoded):
                windows.give()


def encoded(clip: NoClip, jobs: list[VideoJob]) -> Iterator[FramesEncoded | VideoEnd]:
    """Yield features of every video from memory."""
    source = VideoSource(name="none", num_bytes=1, sha256="0" * 64, decoder="none")
    for job in jobs:
        yield FramesEncoded(job, clip.features, 0, WINDOW, 2.0 * WINDOW)
        yield VideoDecoded(job, source)


def write(
    events: Iterator[FramesEncoded | VideoEnd],
    num_videos: int,
    num_writers: int,
    dtype: StorageDtype,
    folder: Path | None,
) -> None:
    """Write into a new store."""
    tally = Tally(num_videos)
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        open_store(place, dtype).writer() as writer,
        WritingThreads(writer, tally, num_threads=num_writers, num_windows=WINDOWS_HELD) as writing,
    ):
        for event in events:
            writing.take(event)
    assert len(tally.done) == num_videos, tally.failed


def main() -> None:
    """Print the table, and what one core and this machine's bound come to."""
    cores = allowed_cores()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--videos", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--writers", type=int, nargs="+", default=sorted({1, cores}))
    parser.add_argument("--decoders", type=int, default=cores)
    parser.add_argument("--folder", type=Path, help="where stores are written; by default /tmp")
    chosen = parser.parse_args()
    clip, jobs = NoClip(), jobs_of(chosen.videos)
    table: dict[str, Series] = {}

    def measure(name: str, way: Callable[[], object]) -> None:
        table.setdefault(name, Series()).measure(way)

    with patch.object(decode_process, "WORKER_COMMAND", (sys.executable, "-c", DECODER)):
        for _ in range(chosen.rounds):
            measure("hand over", lambda: list(map(id, hand_over(jobs, chosen.decoders))))
            for dtype in get_args(StorageDtype):
                for num in chosen.writers:

                    def write_alone(dtype: StorageDtype = dtype, num: int = num) -> None:
                        write(encoded(clip, jobs), len(jobs), num, dtype, chosen.folder)

                    def whole(dtype: StorageDtype = dtype, num: int = num) -> None:
                        decoded = hand_over(jobs, chosen.decoders)
                        events = encode_ahead(clip, decoded, StageClock(), num_ahead=4)
                        write(events, len(jobs), num, dtype, chosen.folder)

                    measure(f"write, {dtype}, {num} threads", write_alone)
                    measure(f"all, {dtype}, {num} threads", whole)
    num_frames = len(jobs) * WINDOW
    print(f"{len(jobs)} videos of {WINDOW} frames, {cores} cores, {chosen.decoders} decoders\n")
    print("| way | frames/s | spread | frames for each CPU second |\n| --- | --- | --- | --- |")
    for name, series in table.items():
        print(series.line(name, num_frames))


if __name__ == "__main__":
    main()
