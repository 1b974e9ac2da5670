"""Where a video's pictures lie in time, by its packets: what a header leaves out or gets wrong.

`read_ending` jumps to the last key frame and reads on, which costs next to nothing where a file has
a table of its frames. `read_timeline` reads every packet, without decoding. Streams made for
broadcast may start their clock anew; FFmpeg then lets its own go on, and so does `on_one_clock`, at
the joints of a `Timeline`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median_low
from typing import NamedTuple

from av.container import InputContainer
from av.error import FFmpegError
from av.format import Flags
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from r2t.store.errors import VideoError

RARE = 10  # times the usual gap between two pictures: such a gap means something

# From here on FFmpeg takes a clock for a new one, in formats that allow for that.
_JOINT_BACK_SECONDS = Fraction(1, 10)
_JOINT_AHEAD_SECONDS = Fraction(10)

_BACK_SECONDS = Fraction(1)  # that time may go back by in other formats
_SHORTEST_FRAME_SECONDS = Fraction(1, 1000)  # by a rate that is one, and no unit of time
_FAR_SECONDS = 10**9
_MARKED_LATE = 3  # pictures by which a mark of loss may be off


class Ending(NamedTuple):
    """When the pictures end, how long the last is shown, and when all ends, sound included.

    In seconds on the stream's own clock.
    """

    pictures_end: Fraction
    last_gap: Fraction
    gap_is_stated: bool
    end: Fraction


class Joint(NamedTuple):
    """From this picture packet on, counted from 0, a clock starts anew; on ours it is `ticks`."""

    first_packet: int
    shift_ticks: int
    ticks: int


@dataclass(frozen=True)
class Timeline:
    """All pictures of a file on one clock. Sound runs on where it never pauses for ten seconds.

    `lossy_ticks` are of packets before or in which others were lost, as a transport stream counts.
    """

    ending: Ending
    usual_gap_ticks: int
    sound_runs_on: bool
    joints: tuple[Joint, ...]
    lossy_ticks: tuple[int, ...]

    def lost_between(self, before: int, ticks: int) -> bool:
        """Tell whether packets were lost between two pictures, or just before the first."""
        before -= _MARKED_LATE * self.usual_gap_ticks
        return any(before <= lossy <= ticks for lossy in self.lossy_ticks)


class Stamp(NamedTuple):
    """When a packet is shown and decoded, on its stream's clock, and whether others were lost."""

    pts: int
    dts: int
    duration: int
    lossy: bool
    untimed: bool = False


class _Sound(NamedTuple):
    begin: Fraction
    end: Fraction


def read_ending(
    container: InputContainer, stream: VideoStream, tick: Callable[[], None]
) -> Ending | None:
    """Read on from the last key frame; None where that cannot be reached or holds no pictures."""
    target = int(_FAR_SECONDS / (stream.time_base or 1))
    try:
        container.seek(target, stream=stream, backward=True)
    except FFmpegError:  # a format, or a file, without a table of its frames
        return None
    stamps, others = _read(container, list(container.streams), stream, tick)
    if not stamps:
        return None
    return _ending(stamps, stream, max((each.end for each in others), default=Fraction(0)))


def read_timeline(
    container: InputContainer, stream: VideoStream, name: str, tick: Callable[[], None]
) -> Timeline:
    """Read all packets, up to where the file is cut off; `tick` is called for each.

    Raises `VideoError` where time goes back in a format that does not allow for it.
    """
    time_base = stream.time_base or Fraction(1)
    best = container.streams.best("audio")
    stamps, sound = _read(container, [stream] if best is None else [stream, best], stream, tick)
    pauses = [later.begin - earlier.begin for earlier, later in pairwise(sound)]
    sound_runs_on = bool(pauses) and max(pauses) <= _JOINT_AHEAD_SECONDS
    usual = _usual_gap(stamps)
    joints: list[Joint] = []
    if starts_anew(container):
        joints = list(_joints(stamps, usual, time_base, sound_runs_on=sound_runs_on))
    else:
        for earlier, later in pairwise(stamps):
            require_forward(name, earlier.dts * time_base, later.dts * time_base)
    num_untimed = sum(stamp.untimed for stamp in stamps)
    sound_end = max((each.end for each in sound), default=Fraction(0))
    stamps = _shifted(stamps, joints)
    lossy = tuple(stamp.pts for stamp in stamps if stamp.lossy)
    if num_untimed and frame_ticks(stream) * time_base < _SHORTEST_FRAME_SECONDS:
        raise VideoError(
            f"{name}: {num_untimed} of {len(stamps)} pictures carry no time, and the file states "
            "no frame rate: give them times, as `ffmpeg -r 25 -i FILE -c copy NEW.mkv` does"
        )
    ending = _ending(stamps, stream, sound_end)
    return Timeline(ending, usual, sound_runs_on, tuple(joints), lossy)


def _read(
    container: InputContainer,
    wanted: Sequence[Stream],
    pictures: VideoStream,
    tick: Callable[[], None],
) -> tuple[list[Stamp], list[_Sound]]:
    """Return when the packets of the pictures are shown, and those of the other streams."""
    stamps: list[Stamp] = []
    others: list[_Sound] = []
    try:
        for packet in container.demux(list(wanted)):
            tick()
            stamp = stamp_of(packet)
            if packet.stream.index == pictures.index:
                if is_picture(packet):
                    stamps.append(_in_turn(packet, stamp, stamps[-1:], pictures))
            elif stamp is not None:
                end = (stamp.pts + stamp.duration) * packet.time_base
                others.append(_Sound(stamp.dts * packet.time_base, end))
    except FFmpegError:  # cut off; decoding gives the better message
        pass
    return stamps, others


def _in_turn(
    packet: Packet, stamp: Stamp | None, before: Sequence[Stamp], stream: VideoStream
) -> Stamp:
    """Fill in what a packet does not say of its time, as program streams do not of small ones."""
    if stamp is None:
        step = packet.duration or frame_ticks(stream)
        ticks = before[0].dts + step if before else 0
        return Stamp(ticks, ticks, packet.duration or 0, packet.is_corrupt, untimed=True)
    if packet.dts is None and before:  # reordered pictures have no order of their own
        return stamp._replace(dts=before[0].dts)
    return stamp


def is_picture(packet: Packet) -> bool:
    """Tell whether a packet of a picture stream is shown."""
    return packet.size > 0 and not packet.is_discard


def frame_ticks(stream: VideoStream) -> int:
    """Return how long a picture is shown by the stream's rate; 0 if that is unknown."""
    rate = stream.average_rate or stream.guessed_rate
    return round(1 / rate / stream.time_base) if rate and stream.time_base else 0


def starts_anew(container: InputContainer) -> bool:
    """Tell whether a format's clock may start anew within a file."""
    return Flags.ts_discont in Flags(container.format.flags)


def require_forward(name: str, before: Fraction, seconds: Fraction) -> None:
    """Raise `VideoError` where time goes back by more than careless writers let it."""
    if seconds + _BACK_SECONDS < before:
        raise VideoError(
            f"{name}: its time goes back from {float(before):.3f} s to {float(seconds):.3f} s: "
            "the file holds two recordings, or is damaged; give each recording a file of its own"
        )


def stamp_of(packet: Packet) -> Stamp | None:
    """Return when a packet is shown; None if it never is, or holds nothing."""
    pts = packet.dts if packet.pts is None else packet.pts
    if pts is None or not is_picture(packet):
        return None
    return Stamp(
        pts, pts if packet.dts is None else packet.dts, packet.duration or 0, packet.is_corrupt
    )


def _usual_gap(stamps: Sequence[Stamp]) -> int:
    gaps = [later.dts - earlier.dts for earlier, later in pairwise(stamps)]
    return median_low([gap for gap in gaps if gap > 0] or [0])


def _joints(
    stamps: Sequence[Stamp], usual: int, time_base: Fraction, *, sound_runs_on: bool
) -> Iterator[Joint]:
    """Yield where FFmpeg lets its clock go on, but where pictures are only far apart.

    FFmpeg takes any gap of ten seconds for a new clock. It is none if such gaps are usual here, as
    in a slide show, or if sound runs on meanwhile.
    """
    back = int(_JOINT_BACK_SECONDS / time_base)
    ahead = max(int(_JOINT_AHEAD_SECONDS / time_base), RARE * usual)
    shift = 0
    for number, (earlier, later) in enumerate(pairwise(stamps), start=1):
        step = later.dts - earlier.dts
        if step < -back or (step > ahead and not sound_runs_on):
            shift += (earlier.duration or usual) - step
            yield Joint(number, shift, later.pts + shift)


def _shifted(stamps: Sequence[Stamp], joints: Sequence[Joint]) -> list[Stamp]:
    bounds = [0, *(joint.first_packet for joint in joints), len(stamps)]
    shifts = [0, *(joint.shift_ticks for joint in joints)]
    return [
        stamp._replace(pts=stamp.pts + shift, dts=stamp.dts + shift)
        for (first, end), shift in zip(pairwise(bounds), shifts, strict=True)
        for stamp in stamps[first:end]
    ]


def _ending(stamps: Sequence[Stamp], stream: VideoStream, end_of_others: Fraction) -> Ending:
    """Find the last picture, which is shown as long as stated, else as long as the one before.

    FFmpeg states one tick where it does not know. A rare gap before the last is no measure of it.
    """
    time_base = stream.time_base or Fraction(1)
    last = max(stamps, key=lambda stamp: stamp.pts, default=Stamp(0, 0, 0, False))
    ticks = sorted({stamp.pts for stamp in stamps})
    gap = frame_ticks(stream)
    if len(ticks) > 1:
        gap = ticks[-1] - ticks[-2]
    stated = last.duration > 1 or (last.duration == 1 and gap <= 2)
    if stated:
        gap = last.duration
    elif len(ticks) > 1:
        gap = min(gap, RARE * (_usual_gap(stamps) or gap))
    pictures_end = (last.pts + gap) * time_base
    return Ending(pictures_end, gap * time_base, stated, max(pictures_end, end_of_others))
