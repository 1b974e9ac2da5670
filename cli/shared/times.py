"""Times as people read and type them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import typer

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_UNITS = re.compile(rf"(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?", re.IGNORECASE)
_CLOCK = re.compile(rf"(?:([0-9]+):)?([0-9]+):{_NUMBER}")
_SHARE = re.compile(rf"{_NUMBER} ?%")


@dataclass(frozen=True)
class PartLength:
    """How long a part of a video is: so many seconds, or a share of the whole."""

    seconds: float = 0.0
    share: float = 0.0

    def of(self, duration_seconds: float) -> float:
        """Return its seconds in a video."""
        return self.seconds or self.share * duration_seconds


def parse_length(text: str) -> PartLength:
    """Read a length such as 30s, 1m30s, 0:45 or 10%."""
    found = _SHARE.fullmatch(text.strip())
    if found:
        length = PartLength(share=float(found[1]) / 100)
    else:
        found = _CLOCK.fullmatch(text.strip()) or _UNITS.fullmatch(text.strip())
        parts = [float(part or 0) for part in found.groups()] if found else [0.0]
        length = PartLength(seconds=sum(part * 60**place for place, part in enumerate(parts[::-1])))
    if not 0 < length.seconds + length.share < float("inf"):
        raise typer.BadParameter(f"{text!r}: give a length such as 30s, 1m30s, 0:45 or 10%")
    return length


def minutes(seconds: float) -> str:
    """Write a time as m:ss, or h:mm:ss from an hour on; rounds down to whole seconds."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    if hours:
        return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
    return f"{rest // 60}:{rest % 60:02d}"


def span(start_seconds: float, end_seconds: float) -> str:
    """Write a moment as m:ss.s - m:ss.s, rounded to tenths."""
    return " - ".join(
        f"{minutes(tenths // 10)}.{tenths % 10}"
        for tenths in (round(10 * start_seconds), round(10 * end_seconds))
    )
