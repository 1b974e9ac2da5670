"""Rows of all parts of a kind as one table: each id once, however many parts name it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from r2t.store.errors import CorruptFeatureError, StoreError
from r2t.store.format.manifest import MOST_LISTED, PartNames
from r2t.store.format.nodes import damage
from r2t.store.format.parts import (
    AT_ONCE,
    QUERY_RAGGED,
    PartHeader,
    PartKind,
    parse_header,
    part_place,
    read_headers,
)
from r2t.store.format.row_ids import RowIds
from r2t.store.format.stored_part import Part, load_columns, read_parts

if TYPE_CHECKING:
    import pandas as pd

_LOOKS = 4
_FIRST_HEADERS = 64  # read in one go; four times as many in each that follows


class Table:
    """The rows of parts by the id in column `key`; equal duplicates count once."""

    def __init__(self, parts: Sequence[Part], key: str, location: str) -> None:
        """Raise `StoreError` if two rows of one id differ in their digest."""
        self._parts = list(parts)
        self._key = key
        self._location = location
        counts = [len(part) for part in parts]
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._ids = RowIds((part.columns[key] for part in parts), self._id_at)
        self._kept: NDArray[np.int64] | None = None
        if repeated := self._ids.repeated():
            self._require_equal(repeated)
            self._kept = np.setdiff1d(np.arange(len(self._ids)), list(repeated))

    @property
    def paths(self) -> tuple[str, ...]:
        """Where in the store the parts lie."""
        return tuple(part.header.path for part in self._parts)

    def __len__(self) -> int:
        return len(self._ids) if self._kept is None else len(self._kept)

    def __contains__(self, row_id: str) -> bool:
        return self._ids.first(row_id) is not None

    def find(self, row_id: str) -> tuple[Part, int]:
        """Return the part and the row in it that an id stands in; raise `KeyError` if none."""
        row = self._ids.first(row_id)
        if row is None:
            raise KeyError(row_id)
        return self._place(row)

    def __iter__(self) -> Iterator[tuple[Part, int]]:
        """Yield part and row, in order of writing."""
        if self._kept is not None:
            yield from map(self._place, self._kept.tolist())
            return
        for part in self._parts:
            for row in range(len(part)):
                yield part, row

    def read(self, names: Sequence[str]) -> None:
        """Read columns of all parts at once, before they are asked for row by row."""
        with damage(self._location):
            load_columns(self._parts, names)

    def column(self, name: str) -> NDArray[Any]:
        """Return a column; `num_<ragged>` counts the values of a ragged one."""
        own = _column_of(name)
        self.read([own])
        columns = [part.columns[own] for part in self._parts]
        if own != name:
            columns = [np.diff(offsets) for offsets in columns]
        values = np.concatenate(columns) if columns else np.empty(0)
        return values if self._kept is None else values[self._kept]

    def frame(self, names: Sequence[str]) -> pd.DataFrame:
        """Return columns as a data frame."""
        import pandas as pd

        if not self._parts:
            return pd.DataFrame({name: pd.Series(dtype=object) for name in names})
        self.read([_column_of(name) for name in names])
        columns = {name: self.column(name) for name in names}
        return pd.DataFrame(
            {
                name: values.astype(object) if values.dtype.kind == "T" else values
                for name, values in columns.items()
            }
        )

    def _id_at(self, row: int) -> str:
        part, place = self._place(row)
        return str(part.columns[self._key][place])

    def _place(self, row: int) -> tuple[Part, int]:
        number = int(self._starts.searchsorted(row, side="right")) - 1
        return self._parts[number], row - int(self._starts[number])

    def _require_equal(self, repeated: Mapping[int, int]) -> None:
        pairs = [(self._place(row), self._place(first)) for row, first in repeated.items()]
        load_columns({part: None for pair in pairs for part, _ in pair}, ["digest"])
        for (part, row), (other, first) in pairs:
            if part.columns["digest"][row] != other.columns["digest"][first]:
                what = "queries" if self._key == "query_id" else "videos"
                named = str(part.columns[self._key][row])
                raise StoreError(
                    f"{self._location} holds two different {what} with the id {named!r}"
                )


def _column_of(name: str) -> str:
    """Return the column that must be read for one that `Table.column` returns."""
    if name.startswith("num_") and name[4:] in QUERY_RAGGED:
        return f"{name[4:]}_offsets"
    return name


class PartReader:
    """Reads the parts of a store that are in force, each once, since a part never changes."""

    def __init__(self, group: zarr.Group, location: str, version: int) -> None:
        self._store = group.store
        self._location = location
        self._version = version
        self._names = PartNames(group, location, version)
        self._known: dict[PartKind, Mapping[str, Part]] = {}

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
            if len(names) > MOST_LISTED:
                raise StoreError(
                    f"{self._location} has {len(names)} {kind} parts, more than the {MOST_LISTED} "
                    "that are read; `r2t store repair --compact` joins them"
                )
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
        """Return the parts in force among these, and the names that are no parts.

        The latest are looked at first, some at a time, since one may replace very many.
        """
        place = part_place(kind, self._version)
        replaced: set[str] = set()
        known = self._known.get(kind, {})
        live: list[PartHeader] = []
        missing: list[str] = []
        waiting, num_asked = list(names), _FIRST_HEADERS  # a part sorts after those it replaces
        while waiting := [name for name in waiting if name not in replaced]:
            asked = waiting[-num_asked:]
            waiting, num_asked = waiting[:-num_asked], 4 * num_asked
            for path, header in reversed(
                self._headers([f"{place}/{each}" for each in asked], known)
            ):
                if path.rpartition("/")[2] in replaced:
                    continue
                if header is None:
                    missing.append(path)
                else:
                    live.append(header)
                    replaced |= header.replaces
        live.reverse()
        new = [header for header in live if header.path not in known]
        parts = read_parts(self._store, new, kind, version=self._version)
        load_columns(parts, AT_ONCE[kind])
        both = {**known, **{part.header.path: part for part in parts}}
        # Others are out of force, and their columns may be let go.
        found = {header.path: both[header.path] for header in live}
        self._known[kind] = found
        return list(found.values()), missing

    def _headers(
        self, paths: Sequence[str], known: Mapping[str, Part]
    ) -> list[tuple[str, PartHeader | None]]:
        new = [path for path in paths if path not in known]
        contents = dict(zip(new, read_headers(self._store, new), strict=True))
        found: list[tuple[str, PartHeader | None]] = []
        for path in paths:
            if path in known:
                found.append((path, known[path].header))
            elif (content := contents[path]) is None:
                found.append((path, None))
            else:
                found.append((path, parse_header(path, content)))
        return found
