"""Columnar parts: what the index and the queries of a store are kept in.

A part is a Zarr group of equally long columns. It is written once, whole, under a fresh name, and
never touched again; readers concatenate all parts. So two runs never write the same file.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from r2t.store.errors import CorruptFeatureError
from r2t.store.format.columns import Column, read_column_rows, read_columns, read_metadata
from r2t.store.format.layout import columns_digest
from r2t.store.format.nodes import attributes_of, create_array, open_group, require_array
from r2t.store.format.video_rows import INDEX_COLUMNS, require_legal_columns

Columns = Mapping[str, NDArray[Any]]
PartKind = Literal["index", "queries"]

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
"""The plain and the ragged columns of each kind of part, with their dtypes."""

QUERIES_PER_PART = 2000
"""Most queries that are written as one part: about 100 MB of tokens."""

_CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Part:
    """One committed part: its name and its columns, `tokens` still on disk.

    Readers pass over the parts that it `replaces`, whose names all sort before its own.
    """

    name: str
    columns: dict[str, NDArray[Any]]
    tokens: zarr.Array[Any] | None
    replaces: frozenset[str] = frozenset()
    token_column: Column | None = None

    def token_rows(self, start: int, stop: int) -> NDArray[Any]:
        """Read some rows of `tokens`, and only those."""
        assert self.tokens is not None
        assert self.token_column is not None
        return read_column_rows(self.tokens.store, self.token_column, start, stop)


def new_part_name(replaces: Collection[str] = ()) -> str:
    """Return a name nobody else has: the time first, so that parts list in order of writing.

    It sorts after the parts that it replaces, even if another machine's clock was ahead.
    """
    own = uuid.uuid4().hex[:12]
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{own}"
    latest = max(replaces, default="")
    return name if name > latest else f"{latest}-{own}"


def write_part(folder: Path, columns: Columns, replaces: Collection[str] = ()) -> None:
    """Write the columns as a Zarr group at a path that does not exist yet."""
    attributes: dict[str, Any] = {"digest": columns_digest(sorted(columns.items()))}
    if replaces:
        attributes["replaces"] = sorted(replaces)
    group = open_group(str(folder), "w-", attributes)
    for name, values in columns.items():
        text = values.dtype.kind in "OTU"
        row_bytes = 64 if text else max(1, values[:1].nbytes)
        rows = max(1, min(len(values), _CHUNK_BYTES // row_bytes))
        array = create_array(
            group,
            name,
            shape=values.shape,
            dtype="string" if text else values.dtype,
            chunks=(rows, *values.shape[1:]),
        )
        if len(values):
            array[...] = values


def read_part(group: zarr.Group, kind: PartKind) -> Part:
    """Read a part's columns and check their names, dtypes and lengths; leave `tokens` on disk."""
    scalars, ragged = PART_COLUMNS[kind]
    label = f"part {group.path}"
    names = (*scalars, *ragged, *(f"{column}_offsets" for column in ragged))
    paths = [f"{group.path}/{name}" for name in names]
    found = dict(zip(names, read_metadata(group.store, paths), strict=True))
    num_rows = found["digest"].shape[0]
    lengths = {
        **{key: (dtype, num_rows) for key, dtype in scalars.items()},
        **{f"{key}_offsets": ("int64", num_rows + 1) for key in ragged},
    }
    for key, (dtype, length) in lengths.items():
        if (found[key].dtype, found[key].shape) != (dtype, (length,)):
            raise CorruptFeatureError(
                f"{label}: column {key} is {found[key].dtype}{list(found[key].shape)}, "
                f"expected {dtype}[{length}]"
            )
    stored = [name for name in names if name != "tokens"]
    arrays = read_columns(group.store, [found[name] for name in stored])
    columns = dict(zip(stored, arrays, strict=True))
    if kind == "index":
        require_legal_columns(columns, label)
    for key, dtype in ragged.items():
        values, offsets = found[key], columns[f"{key}_offsets"]
        rising = offsets[0] == 0 and (np.diff(offsets) >= 0).all()
        if values.dtype != dtype or not rising or offsets[-1] != values.shape[0]:
            raise CorruptFeatureError(
                f"{label}: column {key} and its offsets do not fit each other"
            )
    tokens = require_array(group, "tokens") if "tokens" in found else None
    return Part(group.basename, columns, tokens, part_replaces(group), found.get("tokens"))


def part_replaces(group: zarr.Group) -> frozenset[str]:
    """Return the names of the parts that a part stands in for."""
    found = attributes_of(group).get("replaces", [])
    names = cast("list[Any]", found) if isinstance(found, list) else [found]
    if not all(isinstance(name, str) and name < group.basename for name in names):
        raise CorruptFeatureError(f"part {group.path}: it cannot replace {names}")
    return frozenset(names)
