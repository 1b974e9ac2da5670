"""A decoding worker that does, on videos of certain names, what decoders do on a bad day.

A folder's name counts for all videos in it, where their own names are taken.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from r2t.extract.video import decode_worker, frames
from r2t.extract.video.frames import FrameBatch
from r2t.extract.video.probe import VideoLength

STRIP_PIXELS = 160  # of the pictures that plots and pages show

honest_decord = frames.decord_pictures
honest_cut = decode_worker.cut
honest_measure = decode_worker.measure
honest_stream = frames.stream_frames


def sabotaged_decord(video: Any, sampling: Any, tick: Any) -> Iterator[frames.Picture]:
    """Decode four pictures, then crash or hang where the name says so."""
    for number, picture in enumerate(honest_decord(video, sampling, tick)):
        if number == 4 and video.path.stem == "decord-crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == 4 and video.path.stem == "decord-hangs":
            time.sleep(600)
        yield picture


def fail_if_told(path: str) -> None:
    """Crash or hang where the name says so."""
    names = (Path(path).stem, Path(path).parent.name)
    if "crashes" in names:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hangs" in names:
        time.sleep(600)


def sabotaged_measure(path: str, fps: Fraction, **options: Any) -> VideoLength:
    """Crash or hang over the header where the name says so."""
    fail_if_told(path)
    return honest_measure(path, fps, **options)


def sabotaged_cut(path: Path, spans: Sequence[Any], out: Path, **options: Any) -> list[Path]:
    """Crash while cutting where the name says so."""
    fail_if_told(path.stem.removeprefix("cut-"))
    return honest_cut(path, spans, out, **options)


def sabotaged_stream(path: str, fps: Fraction, **options: Any) -> Iterator[FrameBatch]:
    """Fail whole processes where the name says so."""
    stem = Path(path).stem
    fail_if_told(path)
    if options["size"] == STRIP_PIXELS:
        fail_if_told(stem.removeprefix("strip-"))
    while stem == "spins":
        pass
    if stem == "aborts":
        os.write(2, b"terminate called: out of luck\n")
        os.abort()
    if stem == "exits":
        os._exit(3)
    if stem == "eats":
        hoard = []
        while True:
            hoard.append(bytearray(b"x" * (64 << 20)))
    if stem == "breaks":
        raise ZeroDivisionError("a bug")
    print("what libraries print stays out of the answers")
    return honest_stream(path, fps, **options)


if __name__ == "__main__":
    frames.decord_pictures = sabotaged_decord
    decode_worker.stream_frames = sabotaged_stream
    decode_worker.measure = sabotaged_measure
    decode_worker.cut = sabotaged_cut
    decode_worker.main()
