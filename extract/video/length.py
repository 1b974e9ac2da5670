"""When the pictures of a file end: as its header says, if its last packets bear that out.

A header may state the length of the sound, or what was to be recorded, or nothing. Where the
packets say otherwise, and in formats whose header says nothing, all packets are read, without
decoding: a file read once from the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from r2t.extract.video.choices import StreamChoice
from r2t.extract.video.container import open_video
from r2t.extract.video.timeline import Ending, Timeline, read_ending, read_timeline

_ENDS_TOGETHER_SECONDS = Fraction(1, 10)  # sound frames and pictures are of unlike lengths

# Formats whose header or table says how long a stream is. Others give FFmpeg's estimate.
_STATING = {"mov", "matroska", "avi", "flv", "asf"}


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
