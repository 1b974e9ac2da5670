"""Which parts a store has: what its folders list, or the manifest where nothing lists them.

In format version 2 the header names all parts. Whoever commits or drops one has that list written
anew from the folders. Listing is the truth wherever it works; the manifest is for hosts that serve
files and list nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import zarr
from zarr.core.sync import sync

from r2t.store.errors import NotListedError, StoreError
from r2t.store.format.columns import parse_metadata, read_small
from r2t.store.format.header import StoreHeader
from r2t.store.format.nodes import FolderStore, attributes_of
from r2t.store.format.parts import KINDS, PartKind, part_place
from r2t.store.format.publisher import Publisher

MOST_LISTED = 20_000
"""Most parts of a kind that a store may have: its root names them all, and is read whole."""


class PartNames:
    """The names of a store's parts, as they are now, in order of writing."""

    def __init__(self, group: zarr.Group, location: str, version: int) -> None:
        self.listed = True
        self._group = group
        self._location = location
        self._version = version
        self._asked: set[PartKind] = set()

    def now(self, kind: PartKind) -> list[str]:
        """Return the names of all parts of a kind, those that others replace among them.

        Raises `StoreError` where the group of parts is missing, and `NotListedError` where nothing
        tells: in format version 1 only a listing does.
        """
        if self.listed:
            names = self._list(kind)
            if names is not None:
                return names
            self.listed = False
        header = self._header(kind)
        return sorted(header.parts[kind])

    def _list(self, kind: PartKind) -> list[str] | None:
        """List the group of parts; None where its host lists nothing but there is a manifest."""
        place, store = part_place(kind, self._version), self._group.store

        async def collect() -> set[str]:
            return {name async for name in store.list_dir(f"{place}/")}

        try:
            names = sync(collect())
        except NotListedError:
            if self._version == 1:
                raise
            return None
        if "zarr.json" in names:
            return sorted(names - {"zarr.json"})
        if self._version > 1 and not isinstance(store, FolderStore):
            return None
        raise StoreError(
            f"{self._location}: {place}/zarr.json is missing: `r2t store repair` makes it anew; "
            "was the store copied halfway, copy it again"
        )

    def _header(self, kind: PartKind) -> StoreHeader:
        """Return what the root says: as it was opened at first, later as it is now."""
        attributes: Mapping[str, Any] = attributes_of(self._group)
        if kind in self._asked:
            (content,) = read_small(self._group.store, ["zarr.json"])
            attributes = parse_metadata(self._location, content).get("attributes", {})
        self._asked.add(kind)
        return StoreHeader.from_dict(attributes["r2t"], self._location)


def record_parts(publisher: Publisher, *, growing: bool = True) -> None:
    """Write the manifest of a store of format version 2 anew, from a fresh listing.

    Raises, beyond what `rewrite_header` does, `StoreError` if there are more parts than a manifest
    can name; unless `growing`, as while they are joined, it then says what it said before.
    """

    def listed(header: StoreHeader) -> StoreHeader:
        version = header.format_version
        names = {kind: tuple(publisher.committed(part_place(kind, version))) for kind in KINDS}
        if growing:
            _require_few(publisher.location, names)
        names = {
            kind: found if len(found) <= MOST_LISTED else header.parts[kind]
            for kind, found in names.items()
        }
        return dataclasses.replace(header, parts=names)

    rewrite_header(publisher, listed)


def rewrite_header(publisher: Publisher, change: Callable[[StoreHeader], StoreHeader]) -> None:
    """Let the header of a store of format version 2 be what `change` makes of it.

    Processes wait for each other, or write again what another has overtaken. Where a disk has no
    locks, whoever writes last sees by another look what others changed meanwhile. So `change` may
    be called several times.

    Raises `CorruptFeatureError` if the header is damaged, and leaves it as it is.
    """
    location = publisher.location

    def changed(content: bytes) -> bytes:
        metadata = parse_metadata(location, content)
        attributes = cast("dict[str, Any]", metadata["attributes"])
        before = StoreHeader.from_dict(attributes["r2t"], location)
        after = change(before)
        if after == before:
            return content
        attributes["r2t"] = after.to_dict()
        return json.dumps(metadata, indent=2).encode()

    while publisher.change("zarr.json", changed):
        pass


def _require_few(location: str, names: Mapping[str, Sequence[str]]) -> None:
    for kind, found in names.items():
        if len(found) > MOST_LISTED:
            raise StoreError(
                f"{location} has {len(found)} {kind} parts, more than the {MOST_LISTED} that a "
                "store can name; run `r2t store repair --compact`, which joins them. What was "
                "committed is safe"
            )
