"""What options take: values read from what is typed, or refused with what is legal."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any, Literal, get_args

import typer

from r2t.store.schema import PER_VIDEO

_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = re.compile(rf"([0-9]+(?:\.[0-9]+)?) ?({'|'.join(_UNITS)})", re.IGNORECASE)


def one_of(choices: Any) -> dict[str, Any]:
    """Return what makes an option take the values of a `Literal` alone: listed and completed.

    Others are refused before anything is done.
    """
    legal = get_args(choices)

    def parse(text: str) -> str:
        if text not in legal:
            near = get_close_matches(text, legal, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise typer.BadParameter(f"{text!r}: must be one of {', '.join(legal)}{meant}")
        return text

    def complete(incomplete: str) -> list[str]:
        return [name for name in legal if name.startswith(incomplete)]

    return {"parser": parse, "metavar": "|".join(legal), "autocompletion": complete}


def parse_size(text: str | int) -> int:
    """Read a number of bytes with its decimal unit, such as 20GB or 1.5 MB.

    An option's default passes through here as well, as the number that it is.
    """
    if isinstance(text, int):
        return text
    found = _SIZE.fullmatch(text.strip())
    units = {name.lower(): factor for name, factor in _UNITS.items()}
    num_bytes = int(float(found[1]) * units[found[2].lower()]) if found else 0
    if num_bytes < 1:
        raise typer.BadParameter(
            f"{text!r}: give a size with its unit ({', '.join(_UNITS)}), such as 500MB or 20GB"
        )
    return num_bytes


def parse_rate(text: str) -> str:
    """Refuse what is no frame rate; frames per second are above 0."""
    try:
        legal = text == PER_VIDEO or 0 < float(text) < float("inf")
    except ValueError:
        legal = False
    if not legal:
        raise typer.BadParameter(
            f"{text!r}: give frames per second above 0, such as 0.5, or {PER_VIDEO}"
        )
    return text


def as_frame_rate(text: str) -> float | Literal["per-video"]:
    """Return what `parse_rate` let pass: a number, or per-video."""
    return PER_VIDEO if text == PER_VIDEO else float(text)


def parse_fps(text: str | float) -> float:
    """Read frames per second, the same for every video; a default is passed through."""
    if not isinstance(text, str):
        return float(text)
    if parse_rate(text) == PER_VIDEO:
        raise typer.BadParameter(f"{text!r}: give frames per second above 0, such as 0.5")
    return float(text)


def parse_windows(text: str) -> str:
    """Refuse anything but auto, off, or a number of frames from 2 up."""
    if text.isdecimal():
        if int(text) < 2:
            raise typer.BadParameter(f"{text!r}: windows need 2 frames or more")
        return text
    if text in ("auto", "off"):
        return text
    near = get_close_matches(text, ("auto", "off"), 1)
    meant = f"; did you mean {near[0]}?" if near else ", a number of frames from 2 up"
    raise typer.BadParameter(f"{text!r}: must be one of auto, off, N{meant}")


def as_windows(text: str) -> Literal["auto", "off"] | int:
    """Return what `parse_windows` let pass."""
    return int(text) if text.isdecimal() else "off" if text == "off" else "auto"
