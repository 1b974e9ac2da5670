"""What a video file says of itself: one picture stream, its clock, its duration, its orientation.

Times are exact rationals in seconds after the container's start; floats appear only where they
leave this package.

The duration is when the last picture ends, and the file's last packets must bear out what its
header says of it. Where they do not, and in formats whose header says nothing, all packets are
read, without decoding.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.stream import Stream

from r2t.extract.video.choices import (
    DEFAULT_MAX_HOURS,
    StreamChoice,
    exact_rate,
    require_hours,
    require_stream_choice,
)
from r2t.extract.video.container import Orientation, find_length, open_video, picture_streams
from r2t.extract.video.timeline import RARE, Timeline, starts_anew
from r2t.store.errors import VideoError

logger = logging.getLogger(__name__)

_LONG_GAP_SECONDS = 60
_SAME_RATE = 1.01  # so that 30 is not more than 29.97


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """The picture stream of one file, of several the one that `stream_choice` takes.

    It is stream `stream_index` of the file, which has `num_streams` of pictures. `width` and
    `height` are those on the screen, after `orientation`. A timestamp of `ticks` lies (ticks -
    start_ticks) · time_base seconds after the start of the container. `duration` is when the last
    picture ends, which is shown for `last_picture`; by the header the pictures end at
    `stated_duration`. `timeline` is known of a file whose packets were all read.
    """

    path: Path
    container: str
    stream_choice: StreamChoice
    stream_index: int
    num_streams: int
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
    last_picture: Fraction
    stated_duration: Fraction
    timeline: Timeline | None
    clock_starts_anew: bool

    @property
    def duration_seconds(self) -> float:
        """Seconds from the start of the container to the end of the last picture."""
        return float(self.duration)

    @property
    def rotation(self) -> int:
        """Clockwise degrees by which the stored pictures are turned for the screen."""
        return self.orientation.rotation

    @property
    def stream_label(self) -> str:
        """Which stream was decoded, to be named with the decoder; empty where there is but one."""
        return f", stream {self.stream_index}" if self.num_streams > 1 else ""

    def num_slots(self, fps: float | Fraction) -> int:
        """Return how many frames are sampled at `fps`: the duration rounded half up, at least 1."""
        return max(1, math.floor(self.duration * exact_rate(fps) + Fraction(1, 2)))

    def seconds(self, ticks: int) -> Fraction:
        """Return the presentation time of a timestamp."""
        return (ticks - self.start_ticks) * self.time_base

    def slot_ticks(self, slot: int, rate: Fraction) -> Fraction:
        """Return the centre of a slot, which its frame must precede, on the stream's clock."""
        return (slot + Fraction(1, 2)) / rate / self.time_base + self.start_ticks

    def require_whole(self, last_ticks: int, rate: Fraction) -> None:
        """Raise `VideoError` where the last picture ends over two slots before the video does."""
        end = self.seconds(last_ticks) + self.last_picture
        expected = max(self.duration, self.stated_duration)
        if end < expected - 2 / rate:
            raise VideoError(
                f"{self.path}: its pictures end at {float(end):.3f} s of "
                f"{float(expected):.3f} s: the file is truncated or damaged"
            )

    def require_end(self, ticks: int, rate: Fraction) -> None:
        """Raise `VideoError` for a picture so late that it would fill one more slot."""
        if ticks > self.slot_ticks(self.num_slots(rate), rate):
            raise VideoError(
                f"{self.path}: there are pictures at {float(self.seconds(ticks)):.3f} s, past its "
                f"end at {self.duration_seconds:.3f} s: rewrite it, as "
                "`ffmpeg -i FILE -c copy NEW.mkv` does"
            )

    def gap_limit_ticks(self, rate: Fraction) -> int:
        """Return the longest gap between two pictures that needs no warning."""
        limit = _LONG_GAP_SECONDS / self.time_base
        if self._rare_gap_ticks:
            limit = min(limit, max(Fraction(self._rare_gap_ticks), 2 / rate / self.time_base))
        return int(limit)

    def warn_of_gap(self, before: int, ticks: int) -> None:
        """Warn that one picture is shown for long; raise `VideoError` where others are lost.

        A transport stream counts its packets, so that a hole differs from a picture shown for long.
        A program stream does not, but its pictures come at a steady rate.
        """
        where = (
            f"{self.path}: there are no pictures from {float(self.seconds(before)):.3f} s to "
            f"{float(self.seconds(ticks)):.3f} s"
        )
        if self.timeline is not None and 0 < self._rare_gap_ticks < ticks - before:
            counted = self.container == "mpegts"
            if not counted or self.timeline.lost_between(before, ticks):
                raise VideoError(f"{where}: the file is damaged")
        logger.warning("%s: the picture before is used for all of that time", where)

    def warn_of_rate(self, rate: Fraction) -> None:
        """Warn where more pictures are asked for than there are, so that some are taken again."""
        if self.average_fps is not None and rate > _SAME_RATE * self.average_fps:
            logger.warning(
                "%s: %g frames a second were asked for, but it has about %g, so frames repeat",
                self.path,
                float(rate),
                round(self.average_fps, 3),
            )

    def warn_of_joints(self) -> None:
        """Warn of each time at which the clock starts anew."""
        for joint in self.timeline.joints if self.timeline is not None else ():
            logger.warning(
                "%s: its clock starts anew at %.3f s; later times are counted on from there",
                self.path,
                self.seconds(joint.ticks),
            )

    @property
    def _rare_gap_ticks(self) -> int:
        """A gap that may be a hole in a stream, which has no table of its pictures; 0 if none."""
        if not self.clock_starts_anew or self.timeline is None or self.timeline.sound_runs_on:
            return 0
        return RARE * self.timeline.usual_gap_ticks


@dataclass(frozen=True, kw_only=True)
class VideoLength:
    """What planning needs to know of a video, of which `num_frames` would be sampled."""

    num_frames: int
    duration_seconds: float
    width: int
    height: int
    codec: str


def measure(
    path: str | Path,
    fps: float | Fraction,
    *,
    stream_choice: StreamChoice = "best",
    max_hours: float = DEFAULT_MAX_HOURS,
    tick: Callable[[], None] = lambda: None,
) -> VideoLength:
    """Return how much a video is at a frame rate, without decoding more than a picture."""
    video = probe(path, stream_choice=stream_choice, max_hours=max_hours, tick=tick)
    return VideoLength(
        num_frames=video.num_slots(fps),
        duration_seconds=video.duration_seconds,
        width=video.width,
        height=video.height,
        codec=video.codec,
    )


def probe(
    path: str | Path,
    *,
    stream_choice: StreamChoice = "best",
    max_hours: float = DEFAULT_MAX_HOURS,
    tick: Callable[[], None] = lambda: None,
) -> VideoInfo:
    """Read a video's header, first picture and last packets; `tick` is called for each packet.

    A file whose first stream of pictures is not the best is logged, whichever of them is taken.
    Raises `VideoError` where it holds no pictures, or lasts over `max_hours`, as a file does whose
    clock is damaged.
    """
    require_hours(max_hours)
    require_stream_choice(stream_choice)
    path = Path(path)
    with open_video(path, stream_choice) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None:
            raise VideoError(f"{path}: its video stream holds no decodable pictures")
        best = container.streams.best("video")
        orientation = Orientation.of(first)
        width, height = first.width, first.height
        if orientation.transposed:
            width, height = height, width
        time_base = stream.time_base
        if not time_base:
            raise VideoError(f"{path}: its video stream has no clock")
        start = Fraction(container.start_time or 0, av.time_base)
        rate = stream.average_rate or stream.guessed_rate
        length = find_length(path, container, stream, start, tick, stream_choice)
        if length.duration > max_hours * 3600:
            raise VideoError(
                f"{path}: its pictures end after {float(length.duration) / 3600:.1f} hours, and "
                f"the limit is {max_hours:g}: if they truly do, raise it (--max-hours)"
            )
        video = VideoInfo(
            path=path,
            container=container.format.name,
            stream_choice=stream_choice,
            stream_index=stream.index,
            num_streams=len(picture_streams(container)),
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
            duration=length.duration,
            last_picture=length.last_picture,
            stated_duration=length.stated,
            timeline=length.timeline,
            clock_starts_anew=starts_anew(container),
        )
        _warn_of_choice(video, picture_streams(container)[0].index, best)
    video.warn_of_joints()
    return video


def _warn_of_choice(video: VideoInfo, first: int, best: Stream | None) -> None:
    """Log which stream was taken of a file whose first is not the best."""
    if best is None or best.index == first:
        return
    others = f"the best, by FFmpeg's rule; the official features are of the first, stream {first}"
    if video.stream_choice == "first":
        others = f"the first, as in the official features; the best is stream {best.index}"
    logger.warning(
        "%s: of its %d video streams, stream %d is taken: %s",
        video.path,
        video.num_streams,
        video.stream_index,
        others,
    )
