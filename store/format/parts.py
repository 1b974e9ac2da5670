"""Columnar parts: what the index and the queries of a store are kept in.

A part is a Zarr group of equally long columns. It is written once, whole, under a fresh name, and
never touched again; readers concatenate all parts. So two runs never write the same file. Format
version 1 keeps each column in an array of its own, version 2 packs them into few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store

from r2t.store.errors import CorruptFeatureError
from r2t.store.format.columns import (
    Column,
    parse_column,
    parse_metadata,
    read_column_rows,
    read_columns,
    read_metadata,
    read_small,
)
from r2t.store.format.packing import PACKED, unpack_columns
from r2t.store.format.video_rows import INDEX_COLUMNS, require_legal_columns

Columns = Mapping[str, NDArray[Any]]
PartKind = Literal["index", "queries"]
KINDS: tuple[PartKind, ...] = ("index", "queries")

QUERY_COLUMNS: Mapping[str, str] = {
    "query_id": "string",
    "video_id": "string",
    "text": "string",
    "split": "string",
    "domain": "string",
    "duration_seconds": "float64",
    "saliency_clip_seconds": "float64",
    "saliency_lowest": "float64",
    "saliency_highest": "float64",
    "saliency_annotators": "int64",
    "digest": "string",
}
QUERY_RAGGED: Mapping[str, str] = {"tokens": "float16", "moments": "float64", "saliency": "float32"}
"""Ragged columns of queries: values of all rows one after another, ragged axis first.

`<name>_offsets` [rows + 1] says where each row starts: tokens [words, layers, text_width], moments
[moments, 2], saliency [clips · annotators] in C order.
"""

PART_COLUMNS: Mapping[PartKind, tuple[Mapping[str, str], Mapping[str, str]]] = {
    "index": (INDEX_COLUMNS, {}),
    "queries": (QUERY_COLUMNS, QUERY_RAGGED),
}
"""The plain and the ragged columns of each kind of part, with their dtypes.

A queries part of version 2 may also have `embedding` float16 [rows, embedding_width].
"""

_ON_DEMAND = ("tokens", "saliency", "embedding")


@dataclass(frozen=True)
class PartHeader:
    """What the `zarr.json` of a part says, read before its columns are.

    Readers pass over the parts that it `replaces`, whose names all sort before its own.
    """

    path: str
    digest: str
    replaces: frozenset[str]
    attributes: Mapping[str, Any]
    consolidated: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        """Name of the part within its kind."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, eq=False)
class Part:
    """One committed part: its header and the columns that were read on opening.

    `tokens`, `saliency` and `embedding` stay in the store until they are asked for.
    """

    header: PartHeader
    columns: dict[str, NDArray[Any]]
    on_demand: Mapping[str, Column]
    _store: Store

    @property
    def name(self) -> str:
        """Name of the part within its kind."""
        return self.header.name

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.columns["digest"])

    def column_names(self) -> list[str]:
        """Return the names of all columns, sorted, as its digest takes them."""
        return sorted({*self.columns, *self.on_demand})

    def column(self, name: str) -> NDArray[Any]:
        """Return a whole column, which is kept from then on."""
        if name not in self.columns:
            (self.columns[name],) = read_columns(self._store, [self.on_demand[name]])
        return self.columns[name]

    def rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return some rows of a column, along its first axis.

        Of `tokens` and `embedding` only these are moved, unless the column has been read already.
        """
        if name in self.columns or name == "saliency":
            return self.column(name)[start:stop]
        return read_column_rows(self._store, self.on_demand[name], start, stop)


def part_place(kind: PartKind, version: int) -> str:
    """Return the group in which a store of a format version has its parts of a kind."""
    return kind if version == 1 else f"parts/{kind}"


def group_names(version: int) -> tuple[str, ...]:
    """Return the groups that every store of a format version has below its root."""
    own = ("videos",) if version == 1 else ("videos", "parts")
    return (*own, *(part_place(kind, version) for kind in KINDS))


def array_names(kind: PartKind, version: int) -> list[str]:
    """Return the names of the arrays that a part may have."""
    scalars, ragged = PART_COLUMNS[kind]
    if version == 1:
        return [*scalars, *ragged, *(f"{name}_offsets" for name in ragged)]
    if kind == "index":
        return ["texts", "numbers"]
    return [*PACKED, *ragged, "embedding"]


def read_headers(store: Store, paths: Sequence[str]) -> list[bytes | None]:
    """Read the `zarr.json` of parts, at once, for `parse_header`; None where there is none."""
    return read_small(store, [f"{path}/zarr.json" for path in paths])


def parse_header(path: str, content: bytes | None) -> PartHeader:
    """Return what the `zarr.json` of a part says; raise `CorruptFeatureError` if it is damaged."""
    found = parse_metadata(path, content)
    attributes = _object(found, "attributes", path)
    name = path.rpartition("/")[2]
    replaces = attributes.get("replaces", [])
    if not isinstance(replaces, list) or not all(
        isinstance(each, str) and each < name for each in cast("list[Any]", replaces)
    ):
        raise CorruptFeatureError(f"part {path}: it cannot replace {replaces}")
    consolidated = None
    if found.get("consolidated_metadata") is not None:
        consolidated = _object(_object(found, "consolidated_metadata", path), "metadata", path)
    if found.get("node_type") != "group":
        raise CorruptFeatureError(f"{path} is an array, expected a group")
    return PartHeader(
        path,
        str(attributes.get("digest")),
        frozenset(cast("list[str]", replaces)),
        attributes,
        consolidated,
    )


def read_part(store: Store, header: PartHeader, kind: PartKind, *, version: int) -> Part:
    """Read a part's columns and check their names, dtypes and lengths."""
    scalars, ragged = PART_COLUMNS[kind]
    label = f"part {header.path}"
    dtypes = {**scalars, **{f"{name}_offsets": "int64" for name in ragged}}
    found = _find_arrays(store, header, kind, version)
    _require_shapes(found, dtypes if version == 1 else PACKED, label)
    at_once = [name for name in found if name not in _ON_DEMAND]
    columns = dict(
        zip(at_once, read_columns(store, [found[name] for name in at_once]), strict=True)
    )
    if version > 1:
        packed = {name: columns.pop(name) for name in PACKED if name in columns}
        columns |= unpack_columns(packed, header.attributes, dtypes, label)
    if kind == "index":
        require_legal_columns(columns, label)
    for name, dtype in ragged.items():
        values, offsets = found[name], columns[f"{name}_offsets"]
        rising = offsets[0] == 0 and (np.diff(offsets) >= 0).all()
        if values.dtype != dtype or not rising or offsets[-1] != values.shape[0]:
            raise CorruptFeatureError(
                f"{label}: column {name} and its offsets do not fit each other"
            )
    if (embedding := found.get("embedding")) is not None:
        legal = (len(columns["digest"]), "float16", 2)
        if (embedding.shape[0], embedding.dtype, len(embedding.shape)) != legal:
            raise CorruptFeatureError(
                f"{label}: embedding is {embedding.dtype}{list(embedding.shape)}, expected a row "
                "of float16 for each query"
            )
    on_demand = {name: found[name] for name in _ON_DEMAND if name in found}
    return Part(header, columns, on_demand, store)


def _find_arrays(
    store: Store, header: PartHeader, kind: PartKind, version: int
) -> dict[str, Column]:
    names = array_names(kind, version)
    if version == 1:
        columns = read_metadata(store, [f"{header.path}/{name}" for name in names])
        return dict(zip(names, columns, strict=True))
    if header.consolidated is None:
        raise CorruptFeatureError(f"{header.path}/zarr.json does not say what arrays it holds")
    found = header.consolidated
    if not set(names) - {"embedding"} <= found.keys() <= set(names):
        raise CorruptFeatureError(
            f"part {header.path} has the arrays {sorted(found)}, expected {sorted(names)}"
        )
    return {
        name: parse_column(f"{header.path}/{name}", metadata) for name, metadata in found.items()
    }


def _require_shapes(found: Mapping[str, Column], dtypes: Mapping[str, str], label: str) -> None:
    """Look at the arrays of plain columns before they are read, so that they are equally long."""
    packed = "texts" in found
    num_rows = found["texts" if packed else "digest"].shape[0]
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


def _object(found: Mapping[str, Any], name: str, path: str) -> dict[str, Any]:
    value = found.get(name, {})
    if not isinstance(value, dict):
        raise CorruptFeatureError(f"{path}/zarr.json is damaged: {name} = {value!r}")
    return cast("dict[str, Any]", value)
