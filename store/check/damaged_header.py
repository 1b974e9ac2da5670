"""Opening a store to be checked or repaired, though its header may be damaged.

Nobody else opens such a store: what its header says may be wrong, and features that are taken for
another model's are worse than none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import zarr

from r2t.store.check.faults import Fault
from r2t.store.errors import CorruptFeatureError, StoreError
from r2t.store.format import (
    KINDS,
    Part,
    PartNames,
    ProvenHeader,
    StoreHeader,
    attributes_of,
    is_whole_or_newer,
    made_with,
    made_with_in,
    parse_metadata,
    part_place,
    prove_header,
    read_headers,
    unproven_header,
)
from r2t.store.schema import FORMAT_VERSION
from r2t.store.sources import StoreRoot, open_root, read_header_of

_WRONG = "the header is not what its header_digest says"
_PROVEN = "`r2t store repair` restores it from what the parts repeat"
_COPY = (
    "put the zarr.json of another copy of this store in its place and run `r2t store repair`, "
    "which lists the parts anew"
)
_UNPROVEN = (
    "no part of the store proves what it was made with: undo what was edited in zarr.json, or "
    f"{_COPY}. Without a copy the store must be extracted again"
)


@dataclass(frozen=True)
class OpenedStore:
    """A store, with a fault if its header is damaged, and then what is proved of that.

    An unproven header is as it says, by which no more is done than looking.
    """

    root: StoreRoot
    fault: Fault | None = None
    proven: ProvenHeader | None = None


def open_to_check(location: str | Path) -> OpenedStore:
    """Open a store as far as its header.

    Raises `StoreError` where there is none, or its header makes no sense and nothing proves it.
    """
    found: list[tuple[Fault, ProvenHeader | None]] = []

    def read(group: zarr.Group, location: str) -> StoreHeader:
        try:
            return read_header_of(group, location)
        except StoreError:
            said = _said(group)
            proven = None if is_whole_or_newer(said) else _proven(group, location, said)
            if proven is None and (not said or is_whole_or_newer(said)):
                raise
            detail = f"{_WRONG}; {_UNPROVEN if proven is None else _PROVEN}"
            found.append((Fault("header", "zarr.json", detail), proven))
            return unproven_header(said, location) if proven is None else proven.header

    root = open_root(location, read_header=read)
    fault, proven = found[0] if found else (None, None)
    return OpenedStore(root, fault, proven)


def _said(group: zarr.Group) -> Mapping[str, Any]:
    found: Any = attributes_of(group).get("r2t")
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _proven(group: zarr.Group, location: str, said: Mapping[str, Any]) -> ProvenHeader | None:
    listing = PartNames(group, location, FORMAT_VERSION)
    names: dict[str, list[str]] = {}
    copies: list[dict[str, Any]] = []
    for kind in KINDS:
        names[kind] = []
        places: dict[str, str] = {}
        with contextlib.suppress(StoreError):  # that the group is missing is a fault of its own
            place = part_place(kind, FORMAT_VERSION)
            places = {name: f"{place}/{name}" for name in listing.now(kind)}
        contents = read_headers(group.store, list(places.values()))
        for (name, place), content in zip(places.items(), contents, strict=True):
            names[kind] += [] if content is None else [name]
            with contextlib.suppress(CorruptFeatureError):
                copy = made_with_in(parse_metadata(place, content).get("attributes"))
                copies += [] if copy is None else [copy]
    return prove_header(said, copies, names, location)


def header_faults(opened: OpenedStore, parts: Iterable[Part | None]) -> list[Fault]:
    """Return what is wrong with a header: its digest, or that it is of another store."""
    if opened.fault is not None:
        return [opened.fault]
    own = opened.root.header
    expected = made_with(own) if own.format_version == FORMAT_VERSION else None
    like: list[str] = []
    unlike: list[str] = []
    for part in parts:
        found = None if part is None else made_with_in(part.header.attributes)
        if part is not None and found is not None:
            (like if found == expected else unlike).append(part.label)
    if not unlike:
        return []
    detail = f"it is of another store: {unlike[0]} was made with other settings; {_COPY}"
    if like:
        detail = (
            f"it or {unlike[0]} is of another store: that was made with other settings, though "
            f"{like[0]} was not. If the part is, move its folder out of the store and run `r2t "
            f"store repair`. If the header is, {_COPY}"
        )
    return [Fault("header", "zarr.json", detail)]
