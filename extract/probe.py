"""What a video file says of itself: one picture stream, its clock, its duration, its orientation.

Everything that needs FFmpeg's view of a container starts at `open_video`, which turns each way of
being no usable video into a `VideoError`. Times are exact rationals in seconds after the
container's start; floats appear only where they leave this package.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from r2t.extract.resize import Orientation
from r2t.store.errors import ConfigError, VideoError

# The largest denominator of a frame rate: lets 0.1 mean 1/10 and 29.97002997 mean 30000/1001.
_RATE_DENOMINATOR = 100_000


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """The picture stream of one file, as FFmpeg's choice of best stream finds it.

    `width` and `height` are those on the screen, after `orientation`. A timestamp of `ticks` lies
    (ticks - start_ticks) · time_base seconds after the start of the container.
    """

    path: Path
    container: str
    codec: str
    pixel_format: str
    interlaced: bool
    width: int
    height: int
    orientation: Orientation
    average_fps: float | None
    time_base: Fraction
    start_ticks: int
    duration: Fraction

    @property
    def duration_seconds(self) -> float:
        """Duration of the picture stream in seconds."""
        return float(self.duration)

    @property
    def rotation(self) -> int:
        """Clockwise degrees by which the stored pictures are turned for the screen."""
        return self.orientation.rotation

    @property
    def streamed(self) -> bool:
        """Whether the container is one of broadcasting, which holds no table of its frames."""
        return self.container in ("mpegts", "mpeg")

    def num_slots(self, fps: float | Fraction) -> int:
        """Return how many frames are sampled at `fps`: the duration rounded half up, at least 1."""
        return max(1, math.floor(self.duration * exact_rate(fps) + Fraction(1, 2)))

    def seconds(self, ticks: int) -> Fraction:
        """Return the presentation time of a timestamp."""
        return (ticks - self.start_ticks) * self.time_base

    def slot_ticks(self, slot: int, rate: Fraction) -> Fraction:
        """Return the centre of a slot, which its frame must precede, on the stream's clock."""
        return (slot + Fraction(1, 2)) / rate / self.time_base + self.start_ticks

    def require_whole(self, end_seconds: Fraction, rate: Fraction) -> None:
        """Raise `VideoError` where the last picture ends over two slots before the video does."""
        if end_seconds < self.duration - 2 / rate:
            raise VideoError(
                f"{self.path}: its pictures end at {float(end_seconds):.3f} s of "
                f"{self.duration_seconds:.3f} s: the file is truncated or damaged"
            )


@dataclass(frozen=True, kw_only=True)
class VideoLength:
    """What planning needs to know of a video, of which `num_frames` would be sampled."""

    num_frames: int
    duration_seconds: float
    width: int
    height: int
    codec: str


def measure(path: str | Path, fps: float | Fraction) -> VideoLength:
    """Return how much a video is at a frame rate, from its header alone where that says so."""
    video = probe(path)
    return VideoLength(
        num_frames=video.num_slots(fps),
        duration_seconds=video.duration_seconds,
        width=video.width,
        height=video.height,
        codec=video.codec,
    )


def exact_rate(fps: float | Fraction) -> Fraction:
    """Return the simple fraction that a float rate stands for; raise `ConfigError` if not > 0."""
    if not (math.isfinite(fps) and fps > 0):
        raise ConfigError(f"fps = {fps}: give frames per second above 0")
    rate = Fraction(fps).limit_denominator(_RATE_DENOMINATOR)
    return rate or Fraction(fps)


def probe(path: str | Path) -> VideoInfo:
    """Read a video's header and first picture; raise `VideoError` where there is none.

    A file that states no duration is read through once, without decoding, to find its last picture.
    """
    path = Path(path)
    with open_video(path) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None:
            raise VideoError(f"{path}: its video stream holds no decodable pictures")
        orientation = Orientation.of(first)
        width, height = first.width, first.height
        if orientation.transposed:
            width, height = height, width
        time_base = stream.time_base
        if not time_base:
            raise VideoError(f"{path}: its video stream has no clock")
        start = Fraction(container.start_time or 0, av.time_base)
        rate = stream.average_rate or stream.guessed_rate
        stated = _stated_duration(container, stream, start)
        return VideoInfo(
            path=path,
            container=container.format.name,
            codec=stream.codec_context.name,
            pixel_format=first.format.name,
            interlaced=bool(first.interlaced_frame),
            width=width,
            height=height,
            orientation=orientation,
            average_fps=float(rate) if rate else None,
            time_base=time_base,
            # FFmpeg states the start in microseconds, so the stream's own tick is the nearest one.
            start_ticks=math.floor(start / time_base + Fraction(1, 2)),
            duration=stated or _measured_duration(path, start, rate),
        )


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file at its best picture stream; errors of FFmpeg become `VideoError`, then and later.

    The best stream is av_find_best_stream's, which is also decord's choice. A cover image is none.
    """
    if not path.exists():
        raise VideoError(f"{path}: there is no such file")
    if not path.is_file():
        raise VideoError(f"{path}: this is not a file")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty")
    try:
        # An absolute path cannot be mistaken for a protocol, as "a:b.mp4" can.
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            stream = container.streams.best("video")
            if stream is None or stream.disposition & Disposition.attached_pic:
                kinds = ", ".join(sorted({each.type for each in container.streams})) or "none"
                raise VideoError(f"{path}: it has no video stream (streams: {kinds})")
            if not isinstance(stream, VideoStream) or stream.codec_context is None:
                raise VideoError(f"{path}: there is no decoder for its video stream")
            yield container, stream
    except FFmpegError as error:
        raise VideoError(f"{path}: cannot be decoded: {error.strerror or error}") from error


def _stated_duration(
    container: InputContainer, stream: VideoStream, start: Fraction
) -> Fraction | None:
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    whole = Fraction(container.duration or 0, av.time_base)
    if "matroska" not in container.format.name:
        return whole or None
    # Matroska states when things end, not how long they are; a track's end is a tag, and a stale
    # tag betrays itself by passing the end of all.
    tagged = _clock_time(stream.metadata.get("DURATION", ""))
    end = tagged if tagged and tagged <= whole else whole
    return end - start if end > start else None


def _clock_time(text: str) -> Fraction | None:
    """Read "00:01:02.500000000"; None if it is anything else."""
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return None


def _measured_duration(path: Path, start: Fraction, rate: Fraction | None) -> Fraction:
    """Return the last timestamp plus the last gap, over all packets."""
    with open_video(path) as (container, stream):
        time_base = stream.time_base or Fraction(1)
        stamps = (
            packet.dts if packet.pts is None else packet.pts for packet in container.demux(stream)
        )
        ticks = sorted({stamp for stamp in stamps if stamp is not None})
    if len(ticks) > 1:
        gap = (ticks[-1] - ticks[-2]) * time_base
    else:
        gap = 1 / rate if rate else Fraction(0)
    return max(Fraction(0), ticks[-1] * time_base - start if ticks else Fraction(0)) + gap
