"""Videos whose frames carry their own number, written with PyAV while the tests run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.stream import Disposition

BITS = 12
CLOCK = 60_000  # ticks a second; MPEG-4 allows no more than 65,535
SIDE = 64  # of the square that carries the bits, and of the pictures that tests sample


@dataclass(frozen=True)
class Recipe:
    """How to write one video; `times` are the presentation times of its frames in seconds."""

    suffix: str = ".mp4"
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    width: int = 96
    height: int = 64
    times: Sequence[Fraction] = tuple(Fraction(frame, 30) for frame in range(150))
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    rotation: int = 0
    mirror: bool = False
    sound_seconds: float = 0
    clock: int = CLOCK  # an AVI has a place for a frame on every tick


def write_video(path: Path, recipe: Recipe) -> Path:
    """Write a recipe's video; it must have frames."""
    path = path.with_suffix(recipe.suffix)
    options = {"g": "30"} | recipe.options
    if recipe.codec == "libx264":
        options = {"preset": "ultrafast", "threads": "1"} | options
    with av.open(str(path), "w", options=recipe.container_options) as container:
        stream = container.add_stream(recipe.codec, rate=30)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = recipe.width, recipe.height
        stream.pix_fmt = recipe.pixel_format
        stream.codec_context.time_base = Fraction(1, recipe.clock)
        stream.codec_context.options = options
        if recipe.rotation:
            stream.set_display_rotation(recipe.rotation, hflip=recipe.mirror)
        sound = container.add_stream("aac", rate=16_000) if recipe.sound_seconds else None
        for number, seconds in enumerate(recipe.times):
            picture = barcode(number, recipe.width, recipe.height)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(seconds * recipe.clock), Fraction(1, recipe.clock)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if isinstance(sound, av.AudioStream):
            _write_tone(container, sound, recipe.sound_seconds)
    return path


def write_two_streams(path: Path, *, default: int) -> Path:
    """Write four seconds of two streams, of which one is the default.

    The second counts on from 1000, and its pictures are larger.
    """
    with av.open(str(path), "w") as container:
        streams: list[av.VideoStream] = []
        for side in (SIDE, 2 * SIDE):
            stream = container.add_stream("libx264", rate=10)
            assert isinstance(stream, av.VideoStream)
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
            stream.codec_context.options = {"preset": "ultrafast", "threads": "1", "g": "10"}
            streams.append(stream)
        # Where none is the default, the writer makes the first one so.
        streams[default].disposition = Disposition.default
        streams[1 - default].disposition = Disposition.dub
        for number in range(40):
            for base, stream in zip((0, 1000), streams, strict=True):
                picture = barcode(base + number, stream.width, stream.height)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 10)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def patched(path: Path, mark: bytes, offset: int, content: bytes) -> Path:
    """Overwrite what stands some bytes after the end of a mark."""
    data = bytearray(path.read_bytes())
    at = data.index(mark) + len(mark) + offset
    data[at : at + len(content)] = content
    path.write_bytes(data)
    return path


def twice(path: Path) -> Path:
    """Append a file to itself."""
    path.write_bytes(path.read_bytes() * 2)
    return path


def write_audio(path: Path, *, cover: bool = False) -> Path:
    """Write a second of sound, with a cover image if wanted."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16_000)
        assert isinstance(sound, av.AudioStream)
        if cover:
            image = container.add_stream("mjpeg", rate=1)
            assert isinstance(image, av.VideoStream)
            image.width = image.height = SIDE
            image.pix_fmt = "yuvj420p"
            image.disposition = Disposition.attached_pic
            picture = av.VideoFrame.from_ndarray(barcode(0, SIDE, SIDE), format="rgb24")
            container.mux(image.encode(picture))
            container.mux(image.encode(None))
        _write_tone(container, sound, 1.0)
    return path


def _write_tone(container: OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    for start in range(0, int(seconds * 16_000), 1024):
        samples = np.sin(np.arange(start, start + 1024) * 0.1, dtype=np.float32)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16_000, start
        frame.time_base = Fraction(1, 16_000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def barcode(number: int, width: int, height: int) -> np.ndarray:
    """Return an RGB picture whose central square shows `number` in 4 by 4 black or white blocks."""
    side = min(width, height)
    picture = np.full((height, width, 3), 90, np.uint8)
    left, top = (width - side) // 2, (height - side) // 2
    for bit in range(BITS):
        rows, columns = ((np.arange(2) + index) * side // 4 for index in divmod(bit, 4))
        shade = 235 if number >> bit & 1 else 16
        picture[top + rows[0] : top + rows[1], left + columns[0] : left + columns[1]] = shade
    return picture


def read_barcode(pixels: np.ndarray) -> int:
    """Return the number that a sampled [3, SIDE, SIDE] picture shows."""
    cells = pixels.mean(0).reshape(4, SIDE // 4, 4, SIDE // 4)[:, 4:-4, :, 4:-4].mean((1, 3))
    return sum(int(cells[divmod(bit, 4)] > 128) << bit for bit in range(BITS))
