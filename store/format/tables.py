"""Rows of all parts of a kind as one table: each id once, however many parts name it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from r2t.store.errors import CorruptFeatureError, StoreError
from r2t.store.format.manifest import PartNames
from r2t.store.format.nodes import damage
from r2t.store.format.parts import (
    Part,
    PartHeader,
    PartKind,
    parse_header,
    part_place,
    read_headers,
    read_part,
)

if TYPE_CHECKING:
    import pandas as pd

_AT_ONCE = 8
_LOOKS = 4


class Table:
    """The rows of parts by the id in column `key`; equal duplicates count once."""

    def __init__(self, parts: Sequence[Part], key: str, location: str) -> None:
        """Raise `StoreError` if two rows of one id differ in their digest."""
        self._parts = list(parts)
        counts = [len(part.columns["digest"]) for part in parts]
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        ids = [row_id for part in parts for row_id in part.columns[key].tolist()]
        # Read backwards, so that the first of several equal rows stands.
        rows = dict(zip(reversed(ids), range(len(ids) - 1, -1, -1), strict=True))
        self._kept: NDArray[np.int64] | None = None
        if len(rows) < len(ids):
            self._require_equal(ids, rows, key, location)
            self._kept = np.array(sorted(rows.values()), np.int64)
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, row_id: str) -> bool:
        return row_id in self._rows

    def find(self, row_id: str) -> tuple[Part, int]:
        """Return the part and the row in it that an id stands in; raise `KeyError` if none."""
        return self._place(self._rows[row_id])

    def __iter__(self) -> Iterator[tuple[Part, int]]:
        """Yield part and row, in order of writing."""
        if self._kept is not None:
            yield from map(self._place, self._kept.tolist())
            return
        for part in self._parts:
            for row in range(len(part.columns["digest"])):
                yield part, row

    def column(self, name: str) -> NDArray[Any]:
        """Return a column; `num_<ragged>` counts the values of a ragged one."""
        if name.startswith("num_") and f"{name[4:]}_offsets" in self._names:
            columns = [np.diff(part.columns[f"{name[4:]}_offsets"]) for part in self._parts]
        else:
            columns = [part.columns[name] for part in self._parts]
        values = np.concatenate(columns) if columns else np.empty(0)
        return values if self._kept is None else values[self._kept]

    def frame(self, names: Sequence[str]) -> pd.DataFrame:
        """Return columns as a data frame."""
        import pandas as pd

        if not self._parts:
            return pd.DataFrame({name: pd.Series(dtype=object) for name in names})
        columns = {name: self.column(name) for name in names}
        return pd.DataFrame(
            {
                name: values.astype(object) if values.dtype.kind == "T" else values
                for name, values in columns.items()
            }
        )

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(name for part in self._parts for name in part.columns)

    def _place(self, row: int) -> tuple[Part, int]:
        number = int(self._starts.searchsorted(row, side="right")) - 1
        return self._parts[number], row - int(self._starts[number])

    def _require_equal(
        self, ids: Sequence[str], rows: dict[str, int], key: str, location: str
    ) -> None:
        digests = np.concatenate([part.columns["digest"] for part in self._parts])
        first = np.fromiter((rows[row_id] for row_id in ids), np.int64, len(ids))
        for row in np.flatnonzero(digests != digests[first])[:1].tolist():
            what = "queries" if key == "query_id" else "videos"
            raise StoreError(f"{location} holds two different {what} with the id {ids[row]!r}")


class PartReader:
    """Reads the parts of a store that are in force, each once, since a part never changes."""

    def __init__(self, group: zarr.Group, location: str, version: int) -> None:
        self._store = group.store
        self._location = location
        self._version = version
        self._names = PartNames(group, location, version)
        self._known: dict[str, Part] = {}

    def tables(self) -> tuple[Table, Table]:
        """Return the videos and the queries as they are now.

        Raises `CorruptFeatureError` on damage, and `StoreError` where the group of parts is missing
        or two rows of one id differ.
        """
        with ThreadPoolExecutor(2, thread_name_prefix="r2t-parts") as pool:
            index, queries = pool.map(self._read, ("index", "queries"))
        return Table(index, "video_id", self._location), Table(queries, "query_id", self._location)

    def _read(self, kind: PartKind) -> list[Part]:
        """Read the parts in force; look again while names vanish between looking and reading."""
        parts: list[Part] = []
        missing: list[str] = []
        for _ in range(_LOOKS):
            before, names = missing, self._names.now(kind)
            with damage(f"{self._location}: {part_place(kind, self._version)}"):
                parts, missing = self._look(kind, names)
            if not missing or missing == before:
                break
        if missing and not self._names.listed:
            raise CorruptFeatureError(
                f"{self._location}: its parts {', '.join(missing)} are not there: was the store "
                "copied halfway? Copy it again"
            )
        return parts

    def _look(self, kind: PartKind, names: Sequence[str]) -> tuple[list[Part], list[str]]:
        """Return the parts in force among these, and the names that are no parts."""
        place = part_place(kind, self._version)
        paths = {name: f"{place}/{name}" for name in names}
        new = [path for path in paths.values() if path not in self._known]
        contents = dict(zip(new, read_headers(self._store, new), strict=True))
        replaced: set[str] = set()
        live: list[PartHeader] = []
        missing: list[str] = []
        for name in reversed(names):  # a part sorts after those it replaces
            path = paths[name]
            if name in replaced:
                continue
            if path in self._known:
                header = self._known[path].header
            elif contents[path] is None:
                missing.append(path)
                continue
            else:
                header = parse_header(path, contents[path])
            live.append(header)
            replaced |= header.replaces
        self._read_all([header for header in live if header.path not in self._known], kind)
        return [self._known[header.path] for header in reversed(live)], missing

    def _read_all(self, headers: Sequence[PartHeader], kind: PartKind) -> None:
        def read(header: PartHeader) -> Part:
            return read_part(self._store, header, kind, version=self._version)

        if len(headers) < 2:
            parts = list(map(read, headers))
        else:
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="r2t-parts") as pool:
                parts = list(pool.map(read, headers))
        self._known |= {part.header.path: part for part in parts}
