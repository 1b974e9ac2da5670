"""A committed part: its metadata is checked when it is opened, its columns are read on demand.

A table reads the columns of many parts at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store

from r2t.store.errors import CorruptFeatureError
from r2t.store.format.columns import (
    Column,
    parse_column,
    read_column_rows,
    read_columns,
    read_metadata,
)
from r2t.store.format.packing import PACKED, packed_places, unpacked
from r2t.store.format.parts import PART_COLUMNS, PartHeader, PartKind, array_names
from r2t.store.format.video_rows import require_legal_column

_OFFSETS = "_offsets"


class PartColumns(dict[str, NDArray[Any]]):
    """The columns of a part that have been read; another is read when it is first asked for."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        self._part = part

    def __missing__(self, name: str) -> NDArray[Any]:
        load_columns([self._part], [name])
        return self[name]


@dataclass(frozen=True, eq=False)
class Part:
    """One committed part: its header, its arrays, and in `places` where each column lies in them.

    A column that is an array of its own has the place None.
    """

    header: PartHeader
    kind: PartKind
    arrays: Mapping[str, Column]
    places: Mapping[str, tuple[str, int | None]]
    num_rows: int
    store: Store = field(repr=False)
    columns: PartColumns = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", PartColumns(self))

    @property
    def name(self) -> str:
        """Name of the part within its kind."""
        return self.header.name

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"part {self.header.path}"

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.num_rows

    def column_names(self) -> list[str]:
        """Return the names of all columns, sorted, as its digest takes them."""
        return sorted(self.places)

    def rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return some rows of a column, along its first axis.

        Of `tokens` and `embedding` only these are moved, unless the column has been read already.
        """
        if name in self.columns or name not in ("tokens", "embedding"):
            return self.columns[name][start:stop]
        return read_column_rows(self.store, self.arrays[name], start, stop)

    def unit(self, name: str) -> tuple[str, int | None]:
        """Return what has to be read for a column: a whole array, or one column of it."""
        array, place = self.places[name]
        return array, place if self.arrays[array].apart else None

    def keep(self, unit: tuple[str, int | None], values: NDArray[Any]) -> None:
        """Take the columns out of a unit that was read; raise `CorruptFeatureError` on damage."""
        array, place = unit
        for name, found in self.places.items():
            if found[0] != array or (place is not None and found[1] != place):
                continue
            own = values if place is not None or found[1] is None else values[:, found[1]]
            self.columns[name] = self._legal(name, own)

    def _legal(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        dtype = column_dtypes(self.kind).get(name)
        if dtype is not None:
            values = unpacked(values, dtype, name, self.label)
        if self.kind == "index":
            require_legal_column(name, values, self.label)
        if name.endswith(_OFFSETS):
            ragged = name.removesuffix(_OFFSETS)
            rising = values[0] == 0 and (np.diff(values) >= 0).all()
            if not rising or values[-1] != self.arrays[ragged].shape[0]:
                raise CorruptFeatureError(
                    f"{self.label}: column {ragged} and its offsets do not fit each other"
                )
        return values


def load_columns(parts: Iterable[Part], names: Sequence[str]) -> None:
    """Read columns of parts of one store that have not been read yet, at once."""
    wanted: dict[tuple[Part, tuple[str, int | None]], Column] = {}
    for part in parts:
        for name in names:
            if name not in part.columns and name in part.places:
                array, place = unit = part.unit(name)
                column = part.arrays[array]
                wanted[part, unit] = column if place is None else column.at(place)
    if not wanted:
        return
    store = next(iter(wanted))[0].store
    arrays = read_columns(store, list(wanted.values()))
    for (part, unit), values in zip(wanted, arrays, strict=True):
        part.keep(unit, values)


def read_parts(
    store: Store, headers: Sequence[PartHeader], kind: PartKind, *, version: int
) -> list[Part]:
    """Check what parts' metadata says of their columns, which are read later."""
    if version == 1:
        names = array_names(kind, version)
        paths = [f"{header.path}/{name}" for header in headers for name in names]
        found = iter(read_metadata(store, paths))
        return [
            _part(store, each, kind, {name: next(found) for name in names}, version)
            for each in headers
        ]
    return [_part(store, header, kind, _consolidated(header, kind), version) for header in headers]


def column_dtypes(kind: PartKind) -> dict[str, str]:
    """Return the plain columns of a kind of part, offsets among them, with their dtypes."""
    scalars, ragged = PART_COLUMNS[kind]
    return {**scalars, **{f"{name}{_OFFSETS}": "int64" for name in ragged}}


def _part(
    store: Store, header: PartHeader, kind: PartKind, arrays: dict[str, Column], version: int
) -> Part:
    label, dtypes = f"part {header.path}", column_dtypes(kind)
    num_rows = arrays["digest" if version == 1 else "texts"].shape[0]
    _require_shapes(arrays, dtypes if version == 1 else PACKED, num_rows, label)
    own = {name: (name, None) for name in arrays if version == 1 or name not in PACKED}
    places: dict[str, tuple[str, int | None]] = dict(own)
    if version > 1:
        widths = {name: arrays[name].shape[1] for name in PACKED if name in arrays}
        places |= packed_places(header.attributes, widths, dtypes, label)
    for name, dtype in PART_COLUMNS[kind][1].items():
        if arrays[name].dtype != dtype:
            raise CorruptFeatureError(
                f"{label}: column {name} is {arrays[name].dtype}, expected {dtype}"
            )
    if (embedding := arrays.get("embedding")) is not None:
        legal = (num_rows, "float16", 2)
        if (embedding.shape[0], embedding.dtype, len(embedding.shape)) != legal:
            raise CorruptFeatureError(
                f"{label}: embedding is {embedding.dtype}{list(embedding.shape)}, expected a row "
                "of float16 for each query"
            )
    return Part(header, kind, arrays, places, num_rows, store)


def _consolidated(header: PartHeader, kind: PartKind) -> dict[str, Column]:
    found, names = header.consolidated, array_names(kind, 2)
    if found is None:
        raise CorruptFeatureError(f"{header.path}/zarr.json does not say what arrays it holds")
    if not set(names) - {"embedding"} <= found.keys() <= set(names):
        raise CorruptFeatureError(
            f"part {header.path} has the arrays {sorted(found)}, expected {sorted(names)}"
        )
    return {
        name: parse_column(f"{header.path}/{name}", metadata, may_be_apart=name in PACKED)
        for name, metadata in found.items()
    }


def _require_shapes(
    found: Mapping[str, Column], dtypes: Mapping[str, str], num_rows: int, label: str
) -> None:
    """Look at the arrays of plain columns before they are read, so that they are equally long."""
    packed = "texts" in found
    for name, dtype in dtypes.items():
        if packed and name not in found:
            continue  # an index part has no offsets
        array, length = found[name], num_rows + name.endswith("offsets")
        shape = (length, array.shape[-1]) if packed else (length,)
        if (array.dtype, array.shape) != (dtype, shape):
            raise CorruptFeatureError(
                f"{label}: column {name} is {array.dtype}{list(array.shape)}, "
                f"expected {dtype}{list(shape)}"
            )
