"""Columnar parts: what the index and the queries of a store are kept in.

A part is a Zarr group of equally long columns. It is written once, whole, under a fresh name, and
never touched again; readers concatenate all parts. So two runs never write the same file. Format
version 1 keeps each column in an array of its own, version 2 packs them into few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from numpy.typing import NDArray
from zarr.abc.store import Store

from r2t.store.errors import CorruptFeatureError
from r2t.store.format.columns import parse_metadata, read_small
from r2t.store.format.packing import PACKED
from r2t.store.format.video_rows import INDEX_COLUMNS

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

WIDE = frozenset({*QUERY_RAGGED, "embedding"})
"""Columns with more than one value a row, which are arrays of their own in each version."""

AT_ONCE: Mapping[PartKind, tuple[str, ...]] = {
    "index": ("video_id", "num_frames"),
    "queries": ("query_id",),
}
"""The columns that are read when a store is opened; the others when they are asked for."""


@dataclass(frozen=True)
class PartHeader:
    """What the `zarr.json` of a part says, read before its columns.

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


def _object(found: Mapping[str, Any], name: str, path: str) -> dict[str, Any]:
    value = found.get(name, {})
    if not isinstance(value, dict):
        raise CorruptFeatureError(f"{path}/zarr.json is damaged: {name} = {value!r}")
    return cast("dict[str, Any]", value)
