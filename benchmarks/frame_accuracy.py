"""Do the decoders sample the right frames?

Compares every decoder, on every video of a folder, with a full sequential decode that shares no
code with them but the resize: FFmpeg hands over all frames, and frame i is the last one presented
before (i + 1/2) / fps. A cell counts the pictures that are equal to the byte. Beside r2t's three
choices stand two habits: decord asked for the right frame numbers without r2t's checks, and frame
number = time x average rate.

With --odd, the files of `odd_videos` are made and compared too. Their pictures carry their own
numbers, and what is right is known from when they were written: nothing is decoded for it.

    python benchmarks/frame_accuracy.py VIDEOS --fps 0.5 1 2
    python benchmarks/frame_accuracy.py --odd
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np
from odd_videos import ODD_VIDEOS, OddVideo

from r2t.extract.video.choices import DecoderChoice, exact_rate
from r2t.extract.video.container import Orientation
from r2t.extract.video.decode_pool import DecodePool
from r2t.extract.video.decoders import resize_and_crop
from r2t.extract.video.folder import find_videos
from r2t.extract.video.probe import probe
from r2t.store.errors import VideoError

SIZE = 64
BARE_SECONDS = 120.0
CHOICES: tuple[DecoderChoice, ...] = ("auto", "pyav", "decord")


@dataclass(frozen=True)
class Truth:
    """What is right of one video at one rate: the numbers of its frames, and how to know them."""

    path: Path
    numbers: list[int]
    num_frames: int
    shows: Callable[[np.ndarray, int], bool]
    """Whether a picture is the right one for a slot."""


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
    return Truth(
        path, numbers, number + 1, lambda found, slot: np.array_equal(found, pictures[slot])
    )


def as_written(video: OddVideo, path: Path, fps: float) -> Truth:
    """Return what is right by the times that an odd video was written with."""
    right = video.right(exact_rate(fps))
    return Truth(
        path, right, len(video.numbers), lambda found, slot: video.shows(found, right[slot])
    )


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
        reason = str(error).removeprefix(f"{truth.path}: ")
        return f"refused ({reason.removeprefix('not for decord: ')})"
    num_slots = len(truth.numbers)
    equal = sum(map(truth.shows, pictures, range(num_slots)))
    label = f"{equal}/{num_slots}"
    return label if len(pictures) == num_slots else f"{label} of {len(pictures)}"


def bare_score(numbers: list[int], truth: Truth) -> str:
    """Score `bare_decord` in a process of its own, which may crash or hang."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        try:
            found = process.submit(bare_decord, truth.path, numbers).result(BARE_SECONDS)
        except BrokenProcessPool:
            return "crashed"
        except Exception as error:
            said = str(error).strip().splitlines()[-1].rpartition("] ")[2]  # when, where, file
            return f"failed ({said[:40]})"
    return score(iter(found), truth)


def header(path: Path) -> tuple[str, float]:
    """Return a file's codec and its average rate, as it states them itself."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        assert isinstance(stream, av.VideoStream)
        codec = f"{stream.codec_context.name} {stream.codec_context.pix_fmt}"
        return codec, float(stream.average_rate or 0)


def row(truth: Truth, fps: float, pools: dict[DecoderChoice, DecodePool]) -> list[str]:
    """Return one line of the table."""
    path = truth.path
    codec, average = header(path)
    cells = [path.name, codec, f"{fps:g}"]
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
    by_rate = [int((slot + 0.5) / fps * average) for slot in range(len(truth.numbers))]
    by_rate = [min(number, truth.num_frames - 1) for number in by_rate]
    return [*cells, bare_score(truth.numbers, truth), bare_score(by_rate, truth)]


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, nargs="?", help="videos; not needed with --odd")
    parser.add_argument("--odd", action="store_true", help="make odd files, and compare them too")
    parser.add_argument("--fps", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    chosen = parser.parse_args()
    if chosen.folder is None and not chosen.odd:
        parser.error("name a folder of videos, or give --odd")
    pools: dict[DecoderChoice, DecodePool] = {
        choice: DecodePool(1, size=SIZE, decoder=choice) for choice in CHOICES
    }
    titles = ["file", "codec", "fps", "auto is", *CHOICES, "bare decord", "time x rate"]
    print("| " + " | ".join(titles) + " |\n|" + " --- |" * len(titles))
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="r2t-odd-") as folder:
        for path, truth_at in subjects(chosen.folder, Path(folder) if chosen.odd else None):
            for fps in chosen.fps:
                try:
                    cells = row(truth_at(fps), fps, pools)
                except VideoError as error:
                    print(f"| {path.name} | {error} |", flush=True)
                    continue
                found, _, expected = cells[4].partition("/")
                wrong += found != expected
                print("| " + " | ".join(cells) + " |", flush=True)
    for pool in pools.values():
        pool.close()
    print(f"\nrows in which auto is not right everywhere: {wrong}")


def subjects(
    folder: Path | None, odd_folder: Path | None
) -> Iterator[tuple[Path, Callable[[float], Truth]]]:
    """Yield videos, and what tells the truth of each at a rate."""
    if folder is not None:
        for path in find_videos(folder):
            yield path, partial(sequential, path)
    if odd_folder is None:
        return
    for video in ODD_VIDEOS:
        path = video.make(odd_folder)
        yield path, partial(as_written, video, path)


if __name__ == "__main__":
    main()
