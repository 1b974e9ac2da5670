"""Do the decoders sample the right frames?

Compares every decoder, on every video of a folder, with a full sequential decode that shares no
code with them but the resize: FFmpeg hands over all frames, and frame i is the last one presented
before (i + 1/2) / fps. A cell counts the pictures that are equal to the byte. Beside r2t's three
choices stand two habits: decord asked for the right frame numbers without r2t's checks, and frame
number = time x average rate.

    python benchmarks/frame_accuracy.py VIDEOS --fps 0.5 1 2
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np

from r2t.extract.decode_pool import DecodePool
from r2t.extract.frames import Decoder, find_videos
from r2t.extract.probe import VideoInfo, exact_rate, probe
from r2t.extract.resize import Orientation, resize_and_crop
from r2t.store.errors import VideoError

SIZE = 64
BARE_SECONDS = 120.0
CHOICES: tuple[Decoder, ...] = ("auto", "pyav", "decord")


@dataclass(frozen=True)
class Truth:
    """The right pictures of one video at one rate, and the numbers of their frames."""

    info: VideoInfo
    pictures: list[np.ndarray]
    numbers: list[int]
    num_frames: int


def sequential(path: Path, fps: float) -> Truth:
    """Decode everything in order; keep the last picture before each slot's centre."""
    info, rate = probe(path), exact_rate(fps)
    centres = [(slot + Fraction(1, 2)) / rate for slot in range(info.num_slots(rate))]
    pictures: list[np.ndarray] = []
    numbers: list[int] = []
    last: tuple[int, av.VideoFrame] | None = None
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        assert isinstance(stream, av.VideoStream)
        number = -1
        for number, frame in enumerate(container.decode(stream)):
            if frame.pts is None:
                raise VideoError(f"{path}: frame {number} has no timestamp")
            while (
                len(pictures) < len(centres) and info.seconds(frame.pts) >= centres[len(pictures)]
            ):
                chosen = last or (number, frame)
                numbers.append(chosen[0])
                pictures.append(picture(chosen[1]))
            last = number, frame
    if last is None:
        raise VideoError(f"{path}: it holds no frames")
    while len(pictures) < len(centres):
        numbers.append(last[0])
        pictures.append(picture(last[1]))
    return Truth(info, pictures, numbers, number + 1)


def picture(frame: av.VideoFrame) -> np.ndarray:
    """Return what a decoder would hand to the model."""
    return resize_and_crop(Orientation.of(frame).apply(frame.to_ndarray(format="rgb24")), SIZE)


def bare_decord(path: Path, numbers: list[int]) -> list[np.ndarray]:
    """Ask decord for frame numbers, as most code does."""
    import decord

    reader = decord.VideoReader(str(path))
    last = len(reader) - 1
    frames = reader.get_batch([min(number, last) for number in numbers]).asnumpy()
    return [resize_and_crop(rgb, SIZE) for rgb in frames]


def score(found: Iterator[np.ndarray], truth: Truth) -> str:
    """Count equal pictures, or say why there are none."""
    try:
        pictures = list(found)
    except VideoError as error:
        reason = str(error).removeprefix(f"{truth.info.path}: ")
        return f"refused ({reason.removeprefix('not for decord: ')})"
    equal = sum(map(np.array_equal, pictures, truth.pictures))
    label = f"{equal}/{len(truth.pictures)}"
    return label if len(pictures) == len(truth.pictures) else f"{label} of {len(pictures)}"


def bare_score(numbers: list[int], truth: Truth) -> str:
    """Score `bare_decord` in a process of its own, which may crash or hang."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        try:
            found = process.submit(bare_decord, truth.info.path, numbers).result(BARE_SECONDS)
        except BrokenProcessPool:
            return "crashed"
        except Exception as error:
            return f"failed ({str(error).strip().splitlines()[-1][:40]})"
    return score(iter(found), truth)


def row(path: Path, fps: float, pools: dict[Decoder, DecodePool]) -> list[str]:
    """Return one line of the table."""
    truth = sequential(path, fps)
    info = truth.info
    cells = [path.name, f"{info.codec} {info.pixel_format}", f"{fps:g}"]
    used = ""
    for choice, pool in pools.items():
        batches: list[str] = []

        def pictures(pool: DecodePool = pool, batches: list[str] = batches) -> Iterator[np.ndarray]:
            for batch in pool.stream(path, fps):
                batches.append(batch.decoder)
                yield from batch.pixels

        cells.append(score(pictures(), truth))
        if choice == "auto" and batches:
            used = batches[-1].split()[0]
    cells.insert(3, used)
    average = info.average_fps or 0.0
    by_rate = [int((slot + 0.5) / fps * average) for slot in range(len(truth.numbers))]
    by_rate = [min(number, truth.num_frames - 1) for number in by_rate]
    return [*cells, bare_score(truth.numbers, truth), bare_score(by_rate, truth)]


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fps", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    chosen = parser.parse_args()
    pools: dict[Decoder, DecodePool] = {
        choice: DecodePool(1, size=SIZE, decoder=choice) for choice in CHOICES
    }
    header = ["file", "codec", "fps", "auto is", *CHOICES, "bare decord", "time x rate"]
    print("| " + " | ".join(header) + " |\n|" + " --- |" * len(header))
    wrong = 0
    for path in find_videos(chosen.folder):
        for fps in chosen.fps:
            try:
                cells = row(path, fps, pools)
            except VideoError as error:
                print(f"| {path.name} | {error} |", flush=True)
                continue
            whole = cells[4].split("/")
            wrong += whole[0] != whole[-1]
            print("| " + " | ".join(cells) + " |", flush=True)
    for pool in pools.values():
        pool.close()
    print(f"\nrows in which auto is not right everywhere: {wrong}")


if __name__ == "__main__":
    main()
