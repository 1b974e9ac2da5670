"""A video file as a container: its streams, how pictures are turned, its length, its one clock.

FFmpeg's errors become our own. Where the clock of a stream starts anew, packets go on from before,
as FFmpeg's command line has them.

A header may state the length of the sound, or what was to be recorded, or nothing. Where the
packets say otherwise, and in formats whose header says nothing, all packets are read, without
decoding: a file read once from the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream
from jaxtyping import UInt8

from r2t.extract.video.choices import StreamChoice
from r2t.extract.video.timeline import (
    Ending,
    Timeline,
    is_picture,
    read_ending,
    read_timeline,
    require_forward,
    stamp_of,
)
from r2t.store.errors import VideoError

_LISTS_OF_FILES = ("concat", "dash", "hls", "imf", "sdp")
"""Formats of FFmpeg that play other files, of which neither size nor digest would be recorded."""

_ENDS_TOGETHER_SECONDS = Fraction(1, 10)  # sound frames and pictures are of unlike lengths

# Formats whose header or table says how long a stream is. Others give FFmpeg's estimate.
_STATING = {"mov", "matroska", "avi", "flv", "asf"}


def picture_streams(container: InputContainer) -> list[VideoStream]:
    """Return the streams of pictures, without cover images, in the order of the file."""
    covers = Disposition.attached_pic
    return [each for each in container.streams.video if not each.disposition & covers]


@contextmanager
def open_video(
    path: Path, choice: StreamChoice = "best"
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file at a picture stream; errors of FFmpeg become `VideoError`, then and later."""
    if not path.exists():
        raise VideoError(f"{path}: there is no such file")
    if path.is_dir():
        raise VideoError(f"{path}: this is a folder, not a file; give the path of one video")
    if not path.is_file():
        raise VideoError(f"{path}: this is not a file")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty")
    try:
        # An absolute path cannot be mistaken for a protocol, as "a:b.mp4" can.
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            if container.format.name in _LISTS_OF_FILES:
                raise VideoError(
                    f"{path}: it is a list of other files ({container.format.name}), not a video"
                )
            pictures = picture_streams(container)
            stream = container.streams.best("video")
            if choice == "first" and pictures:
                stream = pictures[0]
            if stream is None or stream.disposition & Disposition.attached_pic:
                kinds = ", ".join(sorted({each.type for each in container.streams})) or "none"
                raise VideoError(f"{path}: it has no video stream (streams: {kinds})")
            if not isinstance(stream, VideoStream) or stream.codec_context is None:
                raise VideoError(f"{path}: there is no decoder for its video stream")
            yield container, stream
    except FFmpegError as error:
        raise VideoError(f"{path}: cannot be decoded: {error.strerror or error}") from error


@dataclass(frozen=True)
class Orientation:
    """How stored pictures are turned for the screen: transpose first, then mirror."""

    transposed: bool = False
    mirrored_across: bool = False  # left and right change places
    mirrored_down: bool = False  # top and bottom change places

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Orientation:
        """Read a frame's display matrix, of which the nearest right angle counts."""
        try:
            side_data = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # PyAV has no name for another kind of side data on this frame
            return cls.turned(frame.rotation)
        if side_data is None:
            return cls()
        # Rows map (x, y, 1): x' = a·x + c·y, y' = b·x + d·y in 16.16 fixed point.
        matrix = np.frombuffer(bytes(side_data), np.int32)
        a, b, c, d = (int(matrix[index]) for index in (0, 1, 3, 4))
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    @classmethod
    def turned(cls, degrees: float) -> Orientation:
        """Return the turn nearest to this many degrees counterclockwise."""
        return _TURNS[round(-degrees / 90) % 4]

    @property
    def rotation(self) -> int:
        """Clockwise degrees of the turn; a mirroring that is no turn counts as none."""
        return 90 * _TURNS.index(self) if self in _TURNS else 0

    @property
    def mirrored(self) -> bool:
        """Whether writing would read backwards if the pictures were only turned."""
        return self.transposed ^ self.mirrored_across ^ self.mirrored_down

    def apply(
        self, rgb: UInt8[np.ndarray, "height width 3"]
    ) -> UInt8[np.ndarray, "shown_height shown_width 3"]:
        """Return the picture as it is to be shown, a view of the same bytes."""
        if self.transposed:
            rgb = rgb.transpose(1, 0, 2)
        return rgb[:: -1 if self.mirrored_down else 1, :: -1 if self.mirrored_across else 1]


# No turn, then a quarter, a half and three quarters clockwise.
_TURNS = (
    Orientation(),
    Orientation(transposed=True, mirrored_across=True),
    Orientation(mirrored_across=True, mirrored_down=True),
    Orientation(transposed=True, mirrored_down=True),
)


class Length(NamedTuple):
    """Seconds after the container's start, and what the packets say if all were read.

    `duration` is when the last picture ends, which is shown for `last_picture`; `stated` is when
    the pictures should end, which a file that was cut off does not reach.
    """

    duration: Fraction
    last_picture: Fraction
    stated: Fraction
    timeline: Timeline | None


class _Statement(NamedTuple):
    """When the pictures end by the header, or else, if not the stream's `own`, the whole file."""

    end: Fraction
    own: bool


def find_length(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    start: Fraction,
    tick: Callable[[], None],
    choice: StreamChoice,
) -> Length:
    """Find out when the last picture ends; leaves the container anywhere.

    `tick` is called for every packet read. `choice` is what the stream was opened by.
    """
    stated = _statement(container, stream, start)
    ending = None if stated is None else read_ending(container, stream, tick)
    if stated is not None and ending is not None:
        length = _agreed(stated, ending, start, None)
        if length.duration <= stated.end:
            return length
    with open_video(path, choice) as (container, stream):
        timeline = read_timeline(container, stream, str(path), tick)
    return _agreed(stated, timeline.ending, start, timeline)


def _agreed(
    stated: _Statement | None, ending: Ending, start: Fraction, timeline: Timeline | None
) -> Length:
    duration = max(ending.pictures_end - start, Fraction(0))
    if stated is None:
        return Length(duration, ending.last_gap, duration, timeline)
    # They may differ in rounding; and a header that ends while the last picture is shown says how
    # long that is, if its packet does not.
    rounding = ending.last_gap / 2
    earliest = duration - (rounding if ending.gap_is_stated else ending.last_gap)
    if earliest < stated.end <= duration + rounding:
        return Length(stated.end, ending.last_gap, stated.end, timeline)
    sound_ends = ending.end - start > stated.end - _ENDS_TOGETHER_SECONDS
    should_end = duration if sound_ends and not stated.own else stated.end
    return Length(duration, ending.last_gap, should_end, timeline)


def _statement(
    container: InputContainer, stream: VideoStream, start: Fraction
) -> _Statement | None:
    """Return what a header says; nothing where its format has none, or it says nothing."""
    formats = _STATING & set(container.format.name.split(","))
    if not formats:
        return None
    whole = Fraction(container.duration or 0, av.time_base)
    if "matroska" in formats:
        # Matroska states when things end, not how long they are; a track's end is a tag, and a
        # stale tag betrays itself by passing the end of all.
        tagged = _clock_time(stream.metadata.get("DURATION", ""))
        own = tagged is not None and 0 < tagged <= whole
        end = (tagged if tagged is not None and own else whole) - start
    elif stream.duration and stream.time_base and formats & {"mov", "avi"}:
        # A stream may start later than the container, as pictures after their sound do.
        own = True
        began = start if stream.start_time is None else stream.start_time * stream.time_base
        end = began - start + stream.duration * stream.time_base
    else:
        own, end = False, whole
    return _Statement(end, own) if end > 0 else None


def _clock_time(text: str) -> Fraction | None:
    """Read "00:01:02.500000000"; None if it is anything else."""
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return None


def on_one_clock(
    container: InputContainer,
    streams: Stream | Sequence[Stream],
    timeline: Timeline | None,
    name: str,
) -> Iterator[Packet]:
    """Yield packets of the picture stream, the first given, and others, past joints as before.

    Raises `VideoError` where the time of the pictures goes back.
    """
    streams = [streams] if isinstance(streams, Stream) else list(streams)
    clock = _Clock(streams[0], timeline, name)
    for packet in container.demux(streams):
        if packet.size and packet.stream.index == streams[0].index:
            clock.move_picture(packet)
        elif packet.size and clock.num_joints:
            clock.move_other(packet)
        yield packet


class _Clock:
    """How far the clock of a stream is behind ours, packet by packet."""

    def __init__(self, stream: Stream, timeline: Timeline | None, name: str) -> None:
        self._time_base = stream.time_base or Fraction(1)
        self._joints = timeline.joints if timeline is not None else ()
        self._name = name
        self._num_passed = self._num_pictures = 0
        self._shift_ticks = 0
        self._last_dts: int | None = None

    @property
    def num_joints(self) -> int:
        return len(self._joints)

    def move_picture(self, packet: Packet) -> None:
        if is_picture(packet):
            left = self._joints[self._num_passed :]
            if left and left[0].first_packet <= self._num_pictures:
                self._shift_ticks = left[0].shift_ticks
                self._num_passed += 1
            self._num_pictures += 1
        _move(packet, self._shift_ticks)
        if packet.dts is not None:
            if self._last_dts is not None and packet.dts < self._last_dts:
                before, now = self._last_dts * self._time_base, packet.dts * self._time_base
                require_forward(self._name, before, now)
            self._last_dts = packet.dts

    def move_other(self, packet: Packet) -> None:
        """Sound and pictures do not pass a joint together: a packet belongs with what is near."""
        stamp = stamp_of(packet)
        if stamp is None:
            return
        shown = (self._last_dts or 0) * self._time_base
        passed = self._joints[: self._num_passed + 1]  # and the one to come
        shifts = [Fraction(0), *(joint.shift_ticks * self._time_base for joint in passed)]
        begin = stamp.dts * packet.time_base
        nearest = min(shifts, key=lambda shift: abs(begin + shift - shown))
        _move(packet, round(nearest / packet.time_base))


def _move(packet: Packet, ticks: int) -> None:
    if not ticks:
        return
    if packet.pts is not None:
        packet.pts += ticks
    if packet.dts is not None:
        packet.dts += ticks
