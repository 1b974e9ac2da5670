"""Videos whose headers, clocks or containers say less than the truth, and the truth of each.

Every picture shows its own number, so that what is right follows from when the pictures were
written and from nothing that reads videos. Times are chosen so that no frame hangs on what a format
leaves open: how long the last picture is shown (about 0.2 s), and where sound starts (AAC does up
to 64 ms early). Where pictures are of a steady rate, one may begin at a frame's centre: time x rate
then names that one, and the rule the one before.
"""

from __future__ import annotations

import struct
import sys
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, islice
from math import floor
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path.insert(0, str(TESTS))
from barcode_videos import (  # noqa: E402 - beside the suite, not installed
    Recipe,
    patched,
    read_barcode,
    twice,
    write_video,
)

FIFTEENTHS = tuple(Fraction(frame, 15) for frame in range(120))
THIRTIETHS = tuple(Fraction(frame, 30) for frame in range(300))
QUARTERS = tuple(Fraction(1, 10) + Fraction(frame, 4) for frame in range(32))
SLIDES = tuple(Fraction(5 * slide) for slide in range(4))
LATE = tuple(seconds for seconds in QUARTERS if seconds > 3)


def _varying() -> tuple[Fraction, ...]:
    """Return eight seconds of gaps from 20 to 310 ms, none of which ends at a frame's centre."""
    times, gaps = [Fraction(0)], cycle((20, 310, 40, 90, 170, 30, 230))
    while times[-1] < Fraction(77, 10):
        step = times[-1] + Fraction(next(gaps), 1000)
        times.append(step + Fraction(1, 100) if step % Fraction(1, 4) == 0 else step)
    return (*times, Fraction(785, 100))


VARYING = _varying()


@dataclass(frozen=True)
class OddVideo:
    """How to make a file, and when it shows which picture, in seconds from its start."""

    file_name: str
    make: Callable[[Path], Path]
    times: Sequence[Fraction]
    duration_seconds: int
    numbers: Sequence[int]

    def right(self, fps: Fraction) -> list[int]:
        """Return the index of each sampled picture: the last before the frame's centre."""
        num_frames = max(1, floor(self.duration_seconds * fps + Fraction(1, 2)))
        centres = ((frame + Fraction(1, 2)) / fps for frame in range(num_frames))
        return [max(0, bisect_left(self.times, centre) - 1) for centre in centres]

    def shows(self, picture: np.ndarray, index: int) -> bool:
        """Tell whether a sampled picture is the one of an index."""
        return read_barcode(picture) == self.numbers[index]


def _video(
    name: str,
    recipe: Recipe,
    duration_seconds: int = 8,
    *,
    spoil: Callable[[Path], Path] = lambda path: path,
    times: Sequence[Fraction] | None = None,
) -> OddVideo:
    """Describe a file whose pictures are shown at the recipe's times, or at others that are given.

    More times than pictures mean that these are shown again.
    """
    shown = recipe.times if times is None else times
    file_name = name.replace(" ", "-") + recipe.suffix
    return OddVideo(
        file_name,
        lambda folder: spoil(write_video(folder / file_name, recipe)),
        shown,
        duration_seconds,
        list(islice(cycle(range(len(recipe.times))), len(shown))),
    )


def _header_of_sixty(path: Path) -> Path:
    patched(path, b"avih", 20, struct.pack("<I", 60))
    return patched(path, b"strh", 36, struct.pack("<I", 60))


def _without_index(path: Path) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"idx1")])
    return path


def _jumping(times: Sequence[Fraction]) -> tuple[Fraction, ...]:
    return tuple(seconds + (20_000 if seconds >= 4 else 0) for seconds in times)


def _fragmented(flags: str, times: Sequence[Fraction] = FIFTEENTHS) -> Recipe:
    return Recipe(times=times, container_options={"movflags": flags})


ODD_VIDEOS = (
    *(
        _video("pictures after sound", Recipe(suffix, times=LATE, sound_seconds=8))
        for suffix in (".mp4", ".mov", ".mkv", ".flv", ".ts")
    ),
    _video(
        "header of 60 for 300",
        Recipe(".avi", "mpeg4", times=THIRTIETHS, clock=30),
        10,
        spoil=_header_of_sixty,
    ),
    _video(
        "no index",
        Recipe(".avi", "mpeg4", times=THIRTIETHS, clock=30),
        10,
        spoil=_without_index,
    ),
    _video(
        "two recordings",
        Recipe(".ts", times=FIFTEENTHS[:60]),
        spoil=twice,
        times=FIFTEENTHS,
    ),
    _video("sound for longer", Recipe(".flv", times=QUARTERS, sound_seconds=13)),
    _video("a picture each 5 s", Recipe(".ts", times=SLIDES), 20),
    _video("a jump of the clock", Recipe(".ts", times=_jumping(FIFTEENTHS)), times=FIFTEENTHS),
    _video("fragments", _fragmented("frag_keyframe+empty_moov")),
    _video("fragments without end", _fragmented("frag_keyframe+empty_moov+skip_trailer")),
    _video("fragments with index", _fragmented("dash+frag_keyframe+global_sidx")),
    *(
        _video("varying rate", Recipe(suffix, times=VARYING))
        for suffix in (".mp4", ".mkv", ".flv", ".ts")
    ),
)
