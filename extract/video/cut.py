"""Cut moments out of a video, exact to the frame: pictures and sound are encoded anew.

Copying the stream would be faster, but could begin at key frames only, seconds away from a moment.
Pictures keep their times and size (an odd side loses a pixel) and are turned upright; sound is cut
at its own frames, some 20 ms long. Other streams are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from r2t.extract.video.clip_writer import ClipWriter
from r2t.extract.video.container import on_one_clock, open_video
from r2t.extract.video.probe import VideoInfo, probe
from r2t.store.errors import ConfigError, VideoError
from r2t.store.files import appearing
from r2t.store.progress import OnProgress, no_progress

_FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov"}
SUFFIXES = tuple(_FORMATS)
NUMBER = "{n}"  # in a name: a file for each moment, counted from 1

_SOUND_AHEAD_SECONDS = 1  # from which on sound is decoded, as its decoders need a few frames

TimeSpan = tuple[float, float]


def require_clip_path(path: Path, video: Path) -> None:
    """Raise `ConfigError` if no clips of a video can go there, before work is spent on it."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path}: clips are written as {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: the folder {path.parent} does not exist")
    if path.exists() and video.exists() and path.samefile(video):
        raise ConfigError(f"{path} is the video itself: give the clip another name")


def united(spans: Sequence[TimeSpan]) -> list[TimeSpan]:
    """Return spans in time order, overlapping ones joined, empty ones left out."""
    joined: list[TimeSpan] = []
    for start, end in sorted(spans):
        if end <= start:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def clips(out: Path, spans: Sequence[TimeSpan]) -> list[tuple[Path, list[TimeSpan]]]:
    """Return the files that `cut` makes of spans, and what goes into each."""
    if NUMBER not in out.name:
        return [(out, united(spans))]
    return [
        (out.with_name(out.name.replace(NUMBER, str(place))), [span])
        for place, span in enumerate(spans, start=1)
        if span[1] > span[0]
    ]


def cut(
    video: Path,
    spans: Sequence[TimeSpan],
    out: Path,
    *,
    metadata: Mapping[str, str] | None = None,
    on_seconds: OnProgress = no_progress,
) -> list[Path]:
    """Write spans of a video, in seconds, and return the files: one, or one for each span.

    With `{n}` in its name there is a file for each span, in the order given; else all are in one,
    in time order, and what they share is shown once. A file appears whole or not at all.
    `metadata` are tags of the files that players show, such as "title" and "comment".
    """
    require_clip_path(out, video)
    plan = clips(out, spans)
    if not any(chosen for _, chosen in plan):
        raise VideoError(f"{video}: no moment of any length was found to cut out")
    total = sum(_length(chosen) for _, chosen in plan)
    before = 0.0
    for path, chosen in plan:
        require_clip_path(path, video)
        with appearing(path) as unfinished:
            _write(
                video,
                chosen,
                unfinished,
                _FORMATS[path.suffix.lower()],
                metadata or {},
                lambda done, before=before: on_seconds(before + done, total),
            )
        before += _length(chosen)
    return [path for path, _ in plan]


def _length(spans: Sequence[TimeSpan]) -> float:
    return sum(end - start for start, end in spans)


def _write(
    video: Path,
    spans: Sequence[TimeSpan],
    path: Path,
    container_format: str,
    metadata: Mapping[str, str],
    on_seconds: Callable[[float], None],
) -> None:
    # However long it is: whoever asked for the moments has said how long is too long.
    info = probe(video, max_hours=math.inf, tick=lambda: on_seconds(0.0))
    # An absolute path cannot be mistaken for a protocol, as "a:b.mp4" can.
    with (
        _reported_as_os_error(),
        av.open(str(path.absolute()), "w", format=container_format) as target,
    ):
        target.metadata.update(metadata)
        writer: ClipWriter | None = None
        shift = 0.0
        for start, end in spans:
            with open_video(video) as (source, picture):
                sound = source.streams.best("audio")
                if writer is None:
                    writer = ClipWriter(target, picture, sound)
                for frame, seconds in _frames(_decoded(info, source, picture, start, end), start):
                    with _reported_as_os_error():
                        writer.add(frame, seconds - start + shift)
                    if isinstance(frame, av.VideoFrame):
                        on_seconds(seconds - start + shift)
            shift += end - start
        if writer is None or not writer.num_pictures:
            raise VideoError(f"{video}: no picture lies in the moments to cut out")
        writer.close()


@contextmanager
def _reported_as_os_error() -> Iterator[None]:
    """Turn FFmpeg's errors in writing into an `OSError`; those in reading are a `VideoError`."""
    try:
        yield
    except FFmpegError as error:
        raise OSError(error.errno, error.strerror or str(error)) from error


def _frames(decoded: Iterator[tuple[Any, float]], start: float) -> Iterator[tuple[Any, float]]:
    """Yield pictures and sound from `start` on, with their times, the picture then on show first.

    Before a video's first picture the first is on show, as it is where frames are sampled.
    """
    before = None
    shown = False
    for frame, seconds in decoded:
        is_picture = isinstance(frame, av.VideoFrame)
        if seconds < start:
            before = frame if is_picture else before
        elif not is_picture or shown:
            yield frame, seconds
        else:
            shown = True
            on_show = frame if before is None or seconds == start else before
            yield on_show, start
            if on_show is not frame:
                yield frame, seconds
    if not shown and before is not None:
        yield before, start


def _decoded(
    info: VideoInfo, source: InputContainer, picture: VideoStream, start: float, end: float
) -> Iterator[tuple[Any, float]]:
    """Yield what is shown and heard from the key frame before `start` until `end`, and its time.

    Counts seconds from the start of the container, as everything else does. One picture is yielded
    in any case.
    """
    zero = info.start_ticks * info.time_base
    sound = source.streams.best("audio")
    streams = [picture] if sound is None else [picture, sound]
    if not info.clock_starts_anew:
        _seek(source, picture, sound, zero + Fraction(start))
    packets = on_one_clock(source, streams, info.timeline, str(info.path))
    unfinished = {stream.index for stream in streams}
    any_picture = False
    for packet in _from_key_frame(packets, picture, zero + Fraction(start)):
        for frame in packet.decode():
            if frame.pts is None or not isinstance(frame, (av.VideoFrame, av.AudioFrame)):
                continue
            seconds = float(frame.pts * (frame.time_base or packet.time_base) - zero)
            first = isinstance(frame, av.VideoFrame) and not any_picture
            any_picture = any_picture or first
            if seconds < end or first:
                yield frame, seconds
            if seconds >= end:
                unfinished.discard(packet.stream.index)
        if not unfinished:
            return


def _from_key_frame(
    packets: Iterator[Packet], picture: VideoStream, seconds: Fraction
) -> Iterator[Packet]:
    """Pass over pictures before the last key frame that is no later than `seconds`, and sound.

    Streams have no table of their key frames, and FFmpeg's search may land between two.
    """
    held: list[Packet] = []
    for packet in packets:
        at = None if packet.pts is None else packet.pts * packet.time_base
        if packet.stream.index != picture.index:
            if at is None or at > seconds - _SOUND_AHEAD_SECONDS:
                held.append(packet)
            continue
        if packet.is_keyframe and at is not None and at <= seconds:
            held = [each for each in held if each.stream.index != picture.index]
        held.append(packet)
        if at is not None and at > seconds:
            break
    yield from held
    yield from packets


def _seek(
    source: InputContainer, picture: VideoStream, sound: Stream | None, seconds: Fraction
) -> None:
    """Go to the last key frame before a time on the stream's own clock."""
    by: Stream = picture
    time_base = picture.time_base or Fraction(1)
    # Where sound starts before the pictures, their first key frame is too late.
    first = Fraction(picture.start_time or 0) * time_base
    if sound is not None and sound.time_base and seconds < first:
        by, time_base = sound, sound.time_base
    # Only the first packet says which encoder it was, by whose faults others are decoded (x264's
    # 4:4:4 pictures). Where it is damaged, they are decoded as they may be.
    with suppress(FFmpegError, StopIteration):
        next(source.demux(picture)).decode()
    source.seek(int(seconds / time_base), stream=by, backward=True)
