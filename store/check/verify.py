"""Verifying a store: every digest is computed anew, and every file is accounted for.

Presence proves nothing: zarr reads a missing shard as zeros and a flipped byte without a word. So
all bytes are read, video by video on several threads, in memory that does not grow with the store.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from r2t.store.check.check_part import CheckedPart, check_part, live_parts
from r2t.store.check.check_root import check_root
from r2t.store.check.check_video import CheckedVideo, check_stored_video
from r2t.store.check.damaged_header import OpenedStore, header_faults, open_to_check
from r2t.store.check.faults import Fault
from r2t.store.check.inventory import names_in, part_names
from r2t.store.errors import ConfigError, StoreError
from r2t.store.format import (
    KINDS,
    PartKind,
    VideoRow,
    node_name,
    part_place,
)
from r2t.store.parallel import map_threads
from r2t.store.progress import OnProgress, no_progress
from r2t.store.publish import unfinished_work
from r2t.store.sources import StoreRoot

_LOOKS = 4  # at parts that others join meanwhile


@dataclass(frozen=True)
class VerifyReport:
    """What was looked at, and all that is wrong, by place.

    `num_bytes` are those of the tokens of sound videos. Runs that are `live` may be writing:
    their videos are indexed at their end, so that those are no fault. `dead_runs` are folders that
    killed runs left beside the store: the next run clears them. `num_replaced_parts` are parts that
    others stand in for; `repair` removes them. Where the store is not `listed`, because its server
    lists no folders, only what the index names is looked at: videos that it does not name, and
    foreign files, go unseen.
    """

    location: str
    num_videos: int
    num_queries: int
    num_parts: int
    num_replaced_parts: int
    num_bytes: int
    seconds: float
    live_runs: tuple[str, ...]
    dead_runs: tuple[str, ...]
    listed: bool
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Checked:
    """All that lies in a store, looked at piece by piece; parts that others replace are apart."""

    root: StoreRoot
    videos: list[CheckedVideo]
    parts: dict[PartKind, list[CheckedPart]]
    replaced: dict[PartKind, list[str]]
    runs: dict[str, bool]
    at_root: list[Fault]

    @cached_property
    def rows(self) -> dict[str, VideoRow]:
        """The right index row of each sound video.

        In format version 1 a video's attributes are under no digest, but those of its row in an
        index part are. So if such a row names the digest of exactly these features, what it says is
        right. Of several the oldest is right: it was written with the features, while a later one
        may have been read from attributes that were damaged by then.
        """
        own = {video.row.video_id: video.row for video in self.videos if video.row is not None}
        if self.root.header.format_version > 1:
            return own
        recorded: dict[str, VideoRow] = {}
        for part in self.parts["index"]:
            for row in part.video_rows() if part.sound_rows else ():
                stored = own.get(row.video_id)
                if stored is not None and _speaks_of(row, stored, self.root):
                    recorded.setdefault(row.video_id, row)
        return {**own, **recorded}

    def faults(self) -> list[Fault]:
        """Return everything that is wrong, sorted by place."""
        found = [*self.at_root, *_index_faults(self), *_query_conflicts(self)]
        for video in self.videos:
            found += video.faults
        for part in (part for kind in KINDS for part in self.parts[kind]):
            found += part.faults
        return sorted(found, key=lambda fault: (fault.place, fault.kind, fault.detail))


def verify_store(
    location: str | Path,
    *,
    quick: bool = False,
    num_threads: int | None = None,
    on_video: OnProgress = no_progress,
) -> VerifyReport:
    """Look for all that can be wrong with a store, here or at a URL; change nothing.

    `quick` checks the tokens' shapes, sizes and places but not their bytes. `on_video` is told how
    many videos are checked so far. Raises `StoreError` where there is no store to look at,
    and `ServerError` where a server does not give what it is asked for: no fault of the store.
    """
    began = time.monotonic()
    checked = check_store(
        open_to_check(location), quick=quick, num_threads=num_threads, on_video=on_video
    )
    parts = [part for kind in KINDS for part in checked.parts[kind]]
    return VerifyReport(
        location=str(location),
        num_videos=len(checked.rows),
        num_queries=len({name for part in checked.parts["queries"] for name in _sound_ids(part)}),
        num_parts=len(parts),
        num_replaced_parts=sum(len(names) for names in checked.replaced.values()),
        num_bytes=sum(video.num_bytes for video in checked.videos),
        seconds=time.monotonic() - began,
        live_runs=tuple(folder for folder, alive in checked.runs.items() if alive),
        dead_runs=tuple(folder for folder, alive in checked.runs.items() if not alive),
        listed=checked.root.is_listed,
        faults=tuple(checked.faults()),
    )


def check_store(
    opened: OpenedStore,
    *,
    quick: bool = False,
    num_threads: int | None = None,
    on_video: OnProgress = no_progress,
) -> Checked:
    """Look at every node, part and file of a store."""
    root = opened.root
    begun = unfinished_work(root)
    try:
        parts: dict[PartKind, list[CheckedPart]] = {}
        replaced: dict[PartKind, list[str]] = {}
        for kind in KINDS:
            parts[kind], replaced[kind] = _check_parts(root, kind, num_threads)
        # After the parts: what they name was committed before, so that it is among the nodes.
        nodes = names_in(root, "videos") if root.is_listed else None
        # After the nodes: what was being written to a bucket by then is no fault of the store.
        unfinished = unfinished_work(root)
        runs = {**begun, **unfinished}
        if nodes is not None:
            location = root.location.rstrip("/")
            nodes = [name for name in nodes if f"{location}/videos/{name}" not in unfinished]
        recorded = _recorded(parts["index"])
        videos = map_threads(
            lambda node: check_stored_video(root, node, quick=quick, recorded=recorded.get(node)),
            sorted(recorded) if nodes is None else nodes,
            num_threads=num_threads,
            on_done=on_video,
        )
        with_manifest = opened.fault is None and not any(runs.values())
        at_root = check_root(root, with_manifest=with_manifest)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"cannot read {root.location}: {error.strerror or error}") from error
    at_root += header_faults(opened, [part.part for kind in KINDS for part in parts[kind]])
    return Checked(root, videos, parts, replaced, runs, at_root)


def _check_parts(
    root: StoreRoot, kind: PartKind, num_threads: int | None
) -> tuple[list[CheckedPart], list[str]]:
    """Check the parts in force, and name the others; again if some were joined meanwhile."""
    for look in range(_LOOKS):
        live, replaced = live_parts(root, kind)
        parts = map_threads(
            lambda name: check_part(root, kind, name), live, num_threads=num_threads
        )
        faulty = {part.name for part in parts if part.faults}
        if look + 1 == _LOOKS or faulty <= set(part_names(root, kind)):
            return parts, replaced
    raise AssertionError


def _recorded(parts: Sequence[CheckedPart]) -> dict[str, VideoRow]:
    """Return by node what sound index parts say, of several the oldest."""
    rows: dict[str, VideoRow] = {}
    for part in parts:
        for row in part.video_rows() if part.sound_rows else ():
            rows.setdefault(node_name(row.video_id), row)
    return rows


def _index_faults(checked: Checked) -> list[Fault]:
    """Compare what the index says with the videos that are there."""
    faults: list[Fault] = []
    rows = checked.rows
    places = {
        fault.video_id: video.node
        for video in checked.videos
        for fault in video.faults
        if fault.video_id
    }
    indexed: set[str] = set()
    for part in checked.parts["index"]:
        place = f"{part_place('index', checked.root.header.format_version)}/{part.name}"
        for row in part.video_rows():
            indexed.add(row.video_id)
            if row.video_id in rows:
                faults += _differences(place, row, rows[row.video_id])
            elif row.video_id not in places:
                detail = f"names the video {row.video_id!r}, which is not there or not readable"
                faults.append(Fault("gone", place, detail, row.video_id))
    faults += [
        Fault("attributes", f"videos/{video.node}", detail, video.row.video_id)
        for video in checked.videos
        if video.row is not None
        and (detail := _shown(video.row, rows[video.row.video_id], "an index part recorded"))
    ]
    if not any(checked.runs.values()) and checked.root.is_listed:
        faults += [
            Fault(
                "not-indexed",
                f"videos/{video.node}",
                "is committed, but no index part names it",
                video.row.video_id,
            )
            for video in checked.videos
            if video.row is not None and video.row.video_id not in indexed
        ]
    return faults


def _differences(place: str, indexed: VideoRow, right: VideoRow) -> list[Fault]:
    video_id = right.video_id
    shown = _shown(indexed, right, "right is")
    detail = f"says of the video {video_id!r}: {shown}"
    return [Fault("stale-index", place, detail, video_id)] if shown else []


def _shown(row: VideoRow, right: VideoRow, words: str) -> str:
    """Spell out in what a row differs from the right one, "" if it does not."""
    return "; ".join(
        f"{name} {getattr(row, name)!r}, {words} {getattr(right, name)!r}"
        for name in row.differing(right)
    )


def _speaks_of(row: VideoRow, stored: VideoRow, root: StoreRoot) -> bool:
    """Whether a row is legal and of the very features that are stored."""
    if (row.digest, row.num_frames) != (stored.digest, stored.num_frames):
        return False
    try:
        row.require_legal(root.spec)
    except ConfigError:
        return False
    return True


def _sound_ids(checked: CheckedPart) -> list[str]:
    """Return the ids of the sound queries of a part."""
    if checked.part is None:
        return []
    query_ids = checked.part.columns["query_id"]
    return [str(query_ids[row]) for row in checked.sound_rows]


def _query_conflicts(store: Checked) -> list[Fault]:
    faults: list[Fault] = []
    place = part_place("queries", store.root.header.format_version)
    seen: dict[str, tuple[str, str]] = {}
    for checked in store.parts["queries"]:
        if checked.part is None:
            continue
        columns = checked.part.columns
        for row in checked.sound_rows:
            query_id, digest = str(columns["query_id"][row]), str(columns["digest"][row])
            first, part = seen.setdefault(query_id, (digest, checked.name))
            if first != digest:
                detail = f"query {query_id!r} is another one in {place}/{part}"
                faults.append(Fault("query", f"{place}/{checked.name}", detail))
    return faults
