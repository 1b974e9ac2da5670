"""What extracting and annotating say of queries that are not stored, or stored twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from r2t.cli.shared.ui import note
from r2t.store.wording import counted, named

if TYPE_CHECKING:
    from r2t.extract.queries import Rewording

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
    def rewordings(self) -> Iterable[Rewording]: ...


def missing_names(report: QueryReport) -> str:
    """Name annotated videos that are nowhere, each with the one it may be meant for."""
    hints = report.near_misses
    # Those with a hint first: it is what a reader can act on.
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
        note("give times in seconds (not frames or milliseconds), of this very cut of the video")


def note_rewordings(report: QueryReport, store: object) -> None:
    """Name sentences that are in the store beside those that seem to replace them."""
    found = list(report.rewordings)
    if found:
        note(
            f"{counted(len(found), 'sentence')} reworded, it seems, and stored in both forms: "
            f"{named(map(str, found), 5)}. To keep the new ones alone: r2t store annotate {store} "
            "--annotations FILE --replace; to take out others: r2t store remove "
            f"{store} {found[0].query_id}",
            style="yellow",
        )
