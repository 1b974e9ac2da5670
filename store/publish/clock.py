"""How long ago something was, also where this machine slept meanwhile.

`time.monotonic` stands still while a machine sleeps, and a virtual machine that is halted knows
nothing of it until its time is set right. So several clocks are asked, and the one that went
furthest counts: whoever trusts it stops or looks again too early, and never too late.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Self

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)  # not on every system


@dataclass(frozen=True)
class Moment:
    """When something was, by each clock."""

    seconds: tuple[float, ...]

    @classmethod
    def now(cls) -> Self:
        """Read the clocks."""
        return cls(_clocks())

    def seconds_ago(self) -> float:
        """Return how long ago it was, at most: time that was slept through counts."""
        return max(now - then for now, then in zip(_clocks(), self.seconds, strict=True))


def _clocks() -> tuple[float, ...]:
    asleep_too = () if _BOOTTIME is None else (time.clock_gettime(_BOOTTIME),)
    return (time.monotonic(), time.time(), *asleep_too)
