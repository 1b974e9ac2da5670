"""Times as people read them."""

from __future__ import annotations


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
