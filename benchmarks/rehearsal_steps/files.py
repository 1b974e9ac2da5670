"""What a dataset's files hold, and reading them by nothing of the program that is rehearsed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from math import floor
from pathlib import Path
from typing import Any

from rehearsal_steps.samples import Rows

HALF = Fraction(1, 2)


@dataclass(frozen=True)
class Query:
    """A row of a file; `left_out` is what must be said of it where it does not arrive."""

    query_id: str
    video: str
    split: str
    domain: str = ""
    left_out: str = ""


@dataclass(frozen=True)
class Held:
    """What files hold: each video's frames, its queries, and the moments of all queries."""

    frames: Mapping[str, int]
    queries: Sequence[Query]
    num_moments: int = 0


@dataclass(frozen=True)
class Miniature:
    """A dataset's small files, both as videos and as released features.

    `words` are what its commands name; `seconds` are those of the video files to make in `folder`.
    `variants` are other annotation files of the same videos, by the store that they go into.
    """

    name: str
    words: tuple[str, ...]
    folder: str
    seconds: Mapping[str, Fraction]
    raw: Held
    released: Held
    domains: tuple[str, ...] = ("",)
    variants: Mapping[str, Held] = field(default_factory=dict[str, Held])


def num_frames(seconds: Fraction, fps: Fraction) -> int:
    """Return how many frames a video has at a rate."""
    return max(1, floor(seconds * fps + HALF))


def seconds_of(value: float) -> Fraction:
    """Return a length that every container's clock can tell."""
    return Fraction(value).limit_denominator(20)


def choose(
    videos: Iterable[str], count: int, oddities: Iterable[Callable[[str], bool]]
) -> list[str]:
    """Return `count` videos or more: the first with each oddity, then the first of all."""
    keys = list(videos)
    found: dict[str, None] = {}
    for is_odd in oddities:
        found |= dict.fromkeys(islice(filter(is_odd, keys), 1))
    others = [key for key in keys if key not in found]
    return [*found, *others[: max(0, count - len(found))]]


def read_lines(path: Path) -> Rows:
    """Read JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def by_video(rows: Rows) -> dict[str, Rows]:
    """Group rows by the video that they name, in file order."""
    found: dict[str, Rows] = {}
    for row in rows:
        found.setdefault(row["vid"], []).append(row)
    return found


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON document."""
    return json.loads(path.read_text(encoding="utf-8"))
