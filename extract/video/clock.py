"""Packets of a file on one clock, where its own starts anew, as FFmpeg's command line has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from r2t.extract.video.timeline import Timeline, is_picture, require_forward, stamp_of


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
