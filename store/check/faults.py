"""What can be wrong with a store, as `verify` finds it and `repair` mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FaultKind = Literal[
    "header",
    "group",
    "video",
    "attributes",
    "uncommitted",
    "not-indexed",
    "gone",
    "stale-index",
    "part",
    "query",
    "foreign",
    "link",
    "manifest",
    "left-over",
]
"""header: it is not what its digest says, so that only `verify` and `repair` open the store. group:
one that every store has is missing or damaged. video: its bytes, shape or attributes are not what
its digest and the spec say. attributes: its bytes hold, but it says other things of itself than an
index part whose digest holds recorded of these bytes. uncommitted: a node without a digest.
not-indexed: committed, but no index part names it. gone: indexed, but not there. stale-index: an
index part is wrong about a video. part: a part's bytes are not what its digest says. query: one row
is not what its own digest says. foreign: a file that the format has no place for. link: a symbolic
link, which may lead out of the store. manifest: the header names other parts than there are.
left-over: what an upgrade has not cleared yet, or has not finished."""

UNFINISHED = "an upgrade did not end; `r2t store upgrade` finishes it"
"""What is said of what an upgrade has put beside a store that is still of format version 1."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: where in the store, and how it shows; the video that it concerns."""

    kind: FaultKind
    place: str
    detail: str
    video_id: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.place}: {self.detail}"
