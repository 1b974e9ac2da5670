"""What extracting and annotating say about queries that are not stored, or stored twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Protocol

import r2t.extract
from r2t.cli.shared.ui import note
from r2t.store.wording import counted, named

_MOST_NAMED = 20


class QueryReport(Protocol):
    """What `ExtractReport` and `AnnotateReport` have in common."""

    @property
    def missing_videos(self) -> Mapping[str, int]: ...
    @property
    def near_misses(self) -> Mapping[str, str]: ...
    @property
    def impossible_queries(self) -> Mapping[str, str]: ...
    @property
    def rewordings(self) -> Iterable[r2t.extract.Rewording]: ...


def missing_names(report: QueryReport) -> str:
    """Name annotated videos that do not exist, each with the one that may be meant."""
    hints = report.near_misses
    # Those with a hint first, since a reader can act on them.
    names = sorted(report.missing_videos, key=lambda name: name not in hints)
    return named(f"{name} ({hints[name]})" if name in hints else name for name in names)


def note_impossible(report: QueryReport) -> None:
    """Name the queries that were not stored because they cannot be right."""
    impossible = report.impossible_queries
    for query_id, reason in islice(impossible.items(), _MOST_NAMED):
        note(f"not stored: query {query_id!r}, {reason}", style="red")
    if len(impossible) > _MOST_NAMED:
        note(f"not stored: {len(impossible) - _MOST_NAMED} more such queries", style="red")
    if impossible:
        note("give times in seconds (not frames or milliseconds) of exactly this cut of the video")


def note_rewordings(report: QueryReport, store: object) -> None:
    """Name sentences that are in the store beside those that seem to replace them."""
    found = list(report.rewordings)
    if found:
        note(
            f"{counted(len(found), 'sentence')} apparently reworded, and stored in both wordings: "
            f"{named(map(str, found), 5)}. To keep only the new ones: r2t store annotate {store} "
            "--annotations FILE --replace; to remove others: r2t store remove "
            f"{store} {found[0].query_id}",
            style="yellow",
        )
