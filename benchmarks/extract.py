"""Is the pipeline as fast as its slowest part, and how does it compare with the field's way?

Five ways over the same videos, one after another in every round:
  r2t       the whole pipeline, from files to a committed store
  decoding  alone, by the pipeline's processes
  CLIP      encoding alone, of the same frames already in memory, by the pipeline's threads
  writing   alone, of the same features already in memory, by the pipeline's threads
  two-step  ffmpeg writes frames as JPEG at 224, then each video's are read and go through CLIP in
            float32 in one batch size, keeping all hidden states, saved as float16 .npy
Weights are random (seed 0), which changes no time.

    python benchmarks/extract.py VIDEOS --fps 0.5 --rounds 5
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image

from r2t.extract.clip.clip import FrozenClip
from r2t.extract.clip.embedding import EncodedFrames
from r2t.extract.config import ExtractConfig, default_num_workers
from r2t.extract.pipeline import ExtractReport, extract_videos
from r2t.extract.run.local_run import (
    decode_ahead,
    encoding_lanes,
    encoding_pool,
    num_writing_threads,
)
from r2t.extract.run.one_video import FramesDecoded, FramesEncoded, VideoDecoded, VideoJob, in_turns
from r2t.extract.run.progress import Tally
from r2t.extract.run.writing import WritingThreads
from r2t.extract.video.decode_pool import DecodePool
from r2t.extract.video.folder import find_videos
from r2t.store.feature_store import FeatureStore
from r2t.store.features import VideoSource
from r2t.store.machine import allowed_cores
from r2t.store.schema import StorageDtype

MODEL = "ViT-B-32-quickgelu"
FIELD_BATCH = 64


@dataclass
class Series:
    """Seconds of one way in every round, on the clock and of all processors."""

    walls: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.walls)

    def line(self, name: str, num_frames: int) -> str:
        rates = sorted(num_frames / wall for wall in self.walls)
        return (
            f"| {name} | {self.median:.2f} | {num_frames / self.median:.1f} | "
            f"{rates[0]:.1f} to {rates[-1]:.1f} | {statistics.median(self.work):.2f} |"
        )


@dataclass
class Ways:
    """All that is compared."""

    ours: Series = field(default_factory=Series)
    decode: Series = field(default_factory=Series)
    encode: Series = field(default_factory=Series)
    write: Series = field(default_factory=Series)
    two_step: Series = field(default_factory=Series)


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def new_store(clip: FrozenClip, config: ExtractConfig, folder: str) -> FeatureStore:
    """Make a store for what a model makes of frames."""
    spec = clip.spec(config.frame_rate, config.dtype)
    return FeatureStore.create(Path(folder) / "feats.zarr", spec, embedding=clip.embedding)


def pipeline(clip: FrozenClip, config: ExtractConfig, videos: list[Path]) -> ExtractReport:
    """Extract into a new store."""
    with tempfile.TemporaryDirectory() as folder:
        report = extract_videos(config, clip, new_store(clip, config, folder), videos, [])
    assert report.complete, report.failed
    return report


def decode_alone(
    clip: FrozenClip, config: ExtractConfig, videos: list[Path]
) -> list[list[np.ndarray]]:
    """Return the windows of every video, decoded by the pipeline's own workers."""
    assert not isinstance(config.frame_rate, str)
    pool = DecodePool(config.num_workers, size=clip.image_size, window=clip.batch_size)
    windows: dict[str, list[np.ndarray]] = {path.stem: [] for path in videos}
    jobs = [VideoJob(path.stem, path, config.frame_rate) for path in videos]
    for event in decode_ahead(pool, in_turns(jobs), num_threads=config.num_workers):
        if isinstance(event, FramesDecoded):
            windows[event.job.video_id].append(event.batch.pixels)
    return list(windows.values())


def encode_alone(clip: FrozenClip, windows: list[list[np.ndarray]]) -> list[list[EncodedFrames]]:
    """Encode frames that lie in memory, by as many threads as the pipeline does."""
    with encoding_pool(clip.device) as pool:
        found = pool.map(clip.encode_frames, [w for video in windows for w in video])
        return [[next(found) for _ in video] for video in windows]


def write_alone(
    clip: FrozenClip, config: ExtractConfig, features: list[list[EncodedFrames]]
) -> None:
    """Write features that lie in memory into a new store, by as many threads as the pipeline."""
    assert not isinstance(config.frame_rate, str)
    source = VideoSource(name="none", num_bytes=1, sha256="0" * 64, decoder="none")
    tally, threads = Tally(len(features)), num_writing_threads(clip.device)
    with (
        tempfile.TemporaryDirectory() as folder,
        new_store(clip, config, folder).writer() as writer,
        WritingThreads(writer, tally, num_threads=threads, num_windows=4 * threads) as writing,
    ):
        for number, video in enumerate(features):
            num_frames, first = sum(each.num_frames for each in video), 0
            job = VideoJob(f"video-{number}", Path("none"), config.frame_rate)
            seconds = num_frames / config.frame_rate
            for each in video:
                writing.take(FramesEncoded(job, each, first, num_frames, seconds))
                first += each.num_frames
            writing.take(VideoDecoded(job, source))
    assert not tally.failed, tally.failed


def two_step(clip: FrozenClip, fps: float, videos: list[Path]) -> tuple[float, float]:
    """Run the field's way; return the seconds of its two steps."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        for path in videos:
            frames = Path(folder) / path.stem
            frames.mkdir()
            size = clip.image_size
            scale = f"scale={size}:{size}:force_original_aspect_ratio=increase,crop={size}:{size}"
            command = ["ffmpeg", "-v", "error", "-i", str(path), "-vf", f"fps={fps},{scale}"]
            subprocess.run([*command, "-q:v", "2", str(frames / "%06d.jpg")], check=True)
        middle = time.perf_counter()
        for path in videos:
            names = sorted((Path(folder) / path.stem).glob("*.jpg"))
            pixels = np.stack([np.asarray(Image.open(name)).transpose(2, 0, 1) for name in names])
            np.save(Path(folder) / f"{path.stem}.npy", all_states(clip, torch.from_numpy(pixels)))
        return middle - began, time.perf_counter() - middle


@torch.inference_mode()
def all_states(clip: FrozenClip, pixels: torch.Tensor) -> np.ndarray:
    """Return the embedding and the output of every block, frames first, in float16."""
    visual = clip.towers.visual
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (clip.mean, clip.std))
    parts: list[torch.Tensor] = []
    for batch in pixels.split(FIELD_BATCH):
        scaled = ((batch.float() / 255 - mean) / std).to(clip.device)
        states: list[torch.Tensor] = []

        def keep(_: object, __: object, state: torch.Tensor, into: Any = states) -> None:
            into.append(state)

        hooks = [
            module.register_forward_hook(keep)
            for module in (visual.ln_pre, *visual.transformer.resblocks)
        ]
        visual(scaled)
        for hook in hooks:
            hook.remove()
        parts.append(torch.stack(states).half().cpu())
    return torch.cat(parts, dim=1).transpose(0, 1).numpy()


def timed(work: Callable[[], object], series: Series) -> None:
    """Run and record."""
    work_before, began = cpu_seconds(), time.perf_counter()
    work()
    series.walls.append(time.perf_counter() - began)
    series.work.append(cpu_seconds() - work_before)


def print_table(ways: Ways, steps: list[tuple[float, float]], num_frames: int, cores: int) -> None:
    """Print what the rounds took, and the ratios beside their bounds."""
    print("\n| way | median s | frames/s | spread of frames/s | CPU s |")
    print("| --- | --- | --- | --- | --- |")
    print(ways.ours.line("r2t, whole pipeline", num_frames))
    print(ways.decode.line("r2t, decoding alone", num_frames))
    print(ways.encode.line("CLIP alone", num_frames))
    print(ways.write.line("r2t, writing alone", num_frames))
    print(ways.two_step.line("two-step", num_frames))
    first, second = (statistics.median(values) for values in zip(*steps, strict=True))
    alone = {"decoding": ways.decode, "CLIP": ways.encode, "writing": ways.write}
    bound = max(alone, key=lambda name: alone[name].median)
    slowest = alone[bound].median
    shared = statistics.median(ways.ours.work) / cores
    print(f"\nr2t / CLIP alone: {ways.encode.median / ways.ours.median:.2f}")
    print(
        f"r2t / two-step: {ways.two_step.median / ways.ours.median:.2f}; overlapping its two steps "
        f"({first:.1f} s and {second:.1f} s) perfectly would give "
        f"{(first + second) / max(first, second):.2f}"
    )
    print(
        f"bound: {bound} alone, {num_frames / slowest:.1f} frames/s, of which r2t reaches "
        f"{slowest / ways.ours.median:.0%}"
    )
    print(
        f"wall / max(slowest stage alone {slowest:.2f} s, CPU seconds per core {shared:.2f} s): "
        f"{ways.ours.median / max(slowest, shared):.2f}"
    )


def main() -> None:
    """Print medians, spreads, and ratios beside their bounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fps", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=default_num_workers())
    parser.add_argument("--dtype", choices=get_args(StorageDtype), default="float16")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    clip = FrozenClip.load(
        MODEL,
        "none",
        device=chosen.device,
        precision=chosen.precision,
        batch_size=chosen.batch_size,
    )
    field_clip = (
        clip
        if clip.precision == "float32"
        else FrozenClip.load(MODEL, "none", device=chosen.device, precision="float32")
    )
    videos = find_videos(chosen.folder)
    config = ExtractConfig(frame_rate=chosen.fps, dtype=chosen.dtype, num_workers=chosen.workers)
    windows = decode_alone(clip, config, videos)
    num_frames = sum(len(window) for video in windows for window in video)
    cores = allowed_cores()
    lanes, threads = encoding_lanes(clip.device)
    print(
        f"{MODEL} in {clip.precision} on {clip.device}, batches of {clip.batch_size}; {cores} "
        f"cores, {chosen.workers} decoding processes, {lanes} x {threads} encoding threads, "
        f"{num_writing_threads(clip.device)} writing threads; "
        f"{len(videos)} videos, {num_frames} frames at {chosen.fps:g} fps"
    )
    ways = Ways()
    steps: list[tuple[float, float]] = []
    reports: list[ExtractReport] = []
    features: list[list[list[EncodedFrames]]] = []
    for _ in range(chosen.rounds):
        timed(lambda: reports.append(pipeline(clip, config, videos)), ways.ours)
        timed(lambda: decode_alone(clip, config, videos), ways.decode)
        timed(lambda: features.append(encode_alone(clip, windows)), ways.encode)
        timed(lambda: write_alone(clip, config, features.pop()), ways.write)
        timed(lambda: steps.append(two_step(field_clip, chosen.fps, videos)), ways.two_step)
    print_table(ways, steps, num_frames, cores)
    for stage in reports[-1].stages:
        print(
            f"{stage.name}: {stage.frames_per_second:.0f} frames/s while it works, busy "
            f"{stage.utilisation(reports[-1].seconds):.0%}"
        )


if __name__ == "__main__":
    main()
