"""Repairing a store: what is damaged is set aside, and the index and the parts are made anew.

Damaged videos, damaged parts and foreign files move to `<store>.damaged/<time>/`, under the paths
they had. Only what dead runs and an upgrade left behind, and replaced parts, are deleted. What must
be extracted again is listed, for `r2t extract --only`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from r2t.store.change.compact import join_parts
from r2t.store.change.rewrite import replace_index, replace_queries
from r2t.store.check import (
    EARLIER_NAMES,
    Checked,
    Fault,
    OpenedStore,
    check_store,
    open_to_check,
    part_names,
    restore_attributes,
)
from r2t.store.errors import CorruptFeatureError, StoreError
from r2t.store.format import (
    KINDS,
    Part,
    PartKind,
    PartWriter,
    Publisher,
    StoreHeader,
    VideoRow,
    open_group,
    parse_metadata,
    part_place,
    read_query_rows,
)
from r2t.store.progress import OnProgress, no_progress
from r2t.store.publish import open_publisher
from r2t.store.sources import open_root

_IN_PLACE = (
    *("header", "group", "attributes", "not-indexed", "gone", "stale-index"),
    *("manifest", "left-over"),
)
"""Faults that are mended without moving what they name."""


@dataclass(frozen=True)
class RepairReport:
    """What was wrong and what was done about it.

    `set_aside` are paths within the store of what moved to `aside`. `extract_again` are videos that
    the store had or should have. `lost_queries` are ids of queries that must be annotated again; a
    part that cannot be read does not even give their ids. `lost_attributes` says by video which
    records beside its features are given up, because no digest proves them, and
    `lost_header` which of the header.
    """

    faults: tuple[Fault, ...]
    aside: str
    set_aside: tuple[str, ...]
    removed_runs: tuple[str, ...]
    num_parts_before: int
    num_parts_after: int
    extract_again: tuple[str, ...]
    lost_queries: tuple[str, ...]
    lost_attributes: dict[str, tuple[str, ...]]
    lost_header: tuple[str, ...]


def repair_store(
    location: str | Path,
    *,
    quick: bool = False,
    num_threads: int | None = None,
    on_video: OnProgress = no_progress,
) -> RepairReport:
    """Mend what can be mended in a store; safe beside running extractions, and to repeat.

    `quick` trusts the tokens' bytes, as in `verify`. Raises `StoreError` where the store cannot be
    opened or written, or another command is changing it, and `CorruptFeatureError` if its header is
    damaged and nothing proves what it said; nothing is changed then.
    """
    opened = open_to_check(location)
    _require_proven(location, opened, [] if opened.fault is None else [opened.fault])
    root = opened.root
    publisher = open_publisher(root, "repair it")
    with publisher.errors(), publisher.maintenance():
        checked = check_store(opened, quick=quick, num_threads=num_threads, on_video=on_video)
        faults = checked.faults()
        _require_proven(location, opened, faults)
        removed = publisher.clear()
        time = f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
        with publisher:
            if opened.proven is not None:
                publisher.copy_aside("zarr.json", time)
                proven = partial(_with_header, opened.proven.header, str(location))
                publisher.change("zarr.json", proven)
            parts = PartWriter(publisher, root.header)
            damaged = _mend_groups(publisher, time, faults)
            lost_attributes = _mend_attributes(publisher, checked, faults)
            superseded = {kind: list(checked.replaced[kind]) for kind in KINDS}
            superseded["index"] += _rewrite_index(parts, checked)
            lost, names = _rewrite_queries(parts, checked)
            superseded["queries"] += names
            places = _places_to_move(checked, faults)
            for place in places:
                publisher.set_aside(place, time)
            for kind in KINDS:
                folder = part_place(kind, parts.version)
                left = [name for name in superseded[kind] if f"{folder}/{name}" not in places]
                parts.drop(kind, left)
            _clear_left_over(publisher, checked, faults)
            join_parts(parts, open_root(location))
    return RepairReport(
        faults=tuple(faults),
        aside=publisher.aside(time),
        set_aside=(*damaged, *places),
        removed_runs=tuple(removed),
        num_parts_before=_num_parts(checked),
        num_parts_after=sum(len(part_names(root, kind)) for kind in KINDS),
        extract_again=tuple(_extract_again(checked, faults)),
        lost_queries=tuple(lost),
        lost_attributes=lost_attributes,
        lost_header=() if opened.proven is None else opened.proven.lost,
    )


def _require_proven(location: str | Path, opened: OpenedStore, faults: list[Fault]) -> None:
    for fault in faults:
        if fault.kind == "header" and opened.proven is None:
            raise CorruptFeatureError(f"{location}: {fault.place}: {fault.detail}")


def _with_header(header: StoreHeader, location: str, content: bytes) -> bytes:
    """Return the root's metadata with a header that is proved, or as they are if theirs holds."""
    try:
        StoreHeader.from_dict(parse_metadata(location, content)["attributes"]["r2t"], location)
    except (StoreError, LookupError, TypeError, AttributeError):
        metadata = {"attributes": {"r2t": header.to_dict()}, "zarr_format": 3, "node_type": "group"}
        return json.dumps(metadata, indent=2).encode()
    return content


def _mend_groups(publisher: Publisher, time: str, faults: list[Fault]) -> list[str]:
    """Make the metadata of groups anew; return where damaged ones were, which are set aside."""
    moved: list[str] = []
    for fault in faults:
        if fault.kind == "group":
            place = f"{fault.place}/zarr.json"
            if publisher.holds(place):
                publisher.set_aside(place, time)
                moved.append(place)
            open_group(str(publisher.work / fault.place), "a")
            publisher.write(place, (publisher.work / place).read_bytes())
    return moved


def _mend_attributes(
    publisher: Publisher, checked: Checked, faults: list[Fault]
) -> dict[str, tuple[str, ...]]:
    """Take back into the attributes of videos what an index part recorded of them.

    Returns by video what was lost.
    """
    lost: dict[str, tuple[str, ...]] = {}
    for fault in faults:
        row = None if fault.video_id is None else checked.rows.get(fault.video_id)
        if fault.kind == "attributes" and row is not None:
            given_up: list[tuple[str, ...]] = []
            mended = partial(_mended, row, checked.root.header.format_version, given_up.append)
            publisher.change(f"{fault.place}/zarr.json", mended)
            lost |= {row.video_id: given_up[-1]} if given_up else {}
    return lost


def _mended(
    row: VideoRow,
    version: int,
    on_lost: Callable[[tuple[str, ...]], None],
    content: bytes,
) -> bytes:
    """Return a video's metadata with what its index row says; tell what else was given up."""
    metadata = json.loads(content)
    if version > 1:
        metadata["attributes"], given_up = restore_attributes(metadata["attributes"], row)
        if given_up:
            on_lost(given_up)
    else:
        metadata["attributes"] = row.put_into(metadata["attributes"])
    return json.dumps(metadata, indent=2).encode()


def _clear_left_over(publisher: Publisher, checked: Checked, faults: list[Fault]) -> None:
    """Remove the groups of format version 1 that an upgrade left in a store of version 2."""
    for fault in faults:
        if fault.kind == "left-over" and fault.place in EARLIER_NAMES:
            publisher.drop(fault.place)


def _rewrite_index(parts: PartWriter, checked: Checked) -> list[str]:
    """Make the index say what videos are there; return the names of live parts it replaced."""
    rows = checked.rows
    names = _part_names(checked, "index")
    indexed = [row.video_id for part in checked.parts["index"] for row in part.video_rows()]
    sound = not any(part.faults for part in checked.parts["index"])
    stale = any(fault.kind == "stale-index" for fault in checked.faults())
    if len(names) < 2 and sound and not stale and sorted(indexed) == sorted(rows):
        return []
    replace_index(parts, list(rows.values()), names)
    return [part.name for part in checked.parts["index"]]


def _rewrite_queries(writer: PartWriter, checked: Checked) -> tuple[list[str], list[str]]:
    """Bring the sound rows of parts with damage into new ones.

    Returns the ids of the other rows, and the names of the parts that were replaced.
    """
    kept: list[tuple[Part, list[int]]] = []
    lost: list[str] = []
    names: list[str] = []
    digests: dict[str, str] = {}
    for part in checked.parts["queries"]:
        num_lost, sound = len(lost), set(part.sound_rows)
        rows: list[int] = []
        for row, query_id, digest in part.query_rows():
            if row not in sound or digests.get(query_id, digest) != digest:
                lost.append(query_id)
            elif query_id not in digests:
                digests[query_id] = digest
                rows.append(row)
        if part.faults or len(lost) > num_lost:
            names.append(part.name)
            if part.part is not None:
                kept.append((part.part, rows))
    if not any(rows for _, rows in kept):
        return lost, []
    stored = (query for part, rows in kept for query in read_query_rows(part, rows))
    replace_queries(writer, stored, (), [*names, *checked.replaced["queries"]])
    return lost, names


def _part_names(checked: Checked, kind: PartKind) -> list[str]:
    return [part.name for part in checked.parts[kind]] + checked.replaced[kind]


def _num_parts(checked: Checked) -> int:
    return sum(len(_part_names(checked, kind)) for kind in KINDS)


def _places_to_move(checked: Checked, faults: list[Fault]) -> list[str]:
    """Return what is to be set aside: whole videos and parts, or single foreign files."""
    folders = [part_place(kind, checked.root.header.format_version) for kind in KINDS]
    places: set[str] = set()
    for fault in faults:
        if fault.kind in _IN_PLACE:
            continue
        folder = next((each for each in folders if fault.place.startswith(f"{each}/")), None)
        if folder is not None:
            places.add(f"{folder}/{fault.place.removeprefix(f'{folder}/').split('/')[0]}")
        elif fault.kind == "foreign":
            places.add(fault.place)
        else:
            places.add("/".join(fault.place.split("/")[:2]))
    return sorted(
        place for place in places if not any(place.startswith(f"{other}/") for other in places)
    )


def _extract_again(checked: Checked, faults: list[Fault]) -> list[str]:
    sound = checked.rows
    ids: set[str] = set()
    for fault in faults:
        if fault.video_id is not None:
            ids.add(fault.video_id)
        elif fault.kind in ("video", "uncommitted", "link") and fault.place.startswith("videos/"):
            node = fault.place.split("/")[1]
            if "%~" not in node:  # the name of a long id tells only how it begins
                ids.add(unquote(node))
    return sorted(ids - sound.keys())
