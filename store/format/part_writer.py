"""Writing a part: once, whole, and never again; and taking one out of a store."""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zarr
from numpy.typing import NDArray

from r2t.store.format.layout import columns_digest
from r2t.store.format.manifest import record_parts
from r2t.store.format.nodes import create_array, open_group
from r2t.store.format.packing import pack_columns
from r2t.store.format.parts import Columns, PartKind, part_place
from r2t.store.format.publisher import Publisher

QUERIES_PER_PART = 2000
"""Most queries that are written as one part: about 100 MB of tokens."""

_CHUNK_BYTES = 16 * 2**20
_DIMENSIONS: Mapping[str, tuple[str, ...]] = {
    "texts": ("row", "text"),
    "numbers": ("row", "number"),
    "offsets": ("start", "ragged"),
    "tokens": ("word", "layer", "channel"),
    "moments": ("moment", "end"),
    "saliency": ("score",),
    "embedding": ("row", "embedding_channel"),
}


@dataclass(frozen=True)
class PartWriter:
    """Commits parts to a store and drops them; the manifest follows each time."""

    publisher: Publisher
    version: int

    def commit(self, kind: PartKind, columns: Columns, replaces: Collection[str] = ()) -> None:
        """Write a part, which from then on stands in for those it replaces."""
        name = new_part_name(replaces)
        folder = self.publisher.work / f"{kind}-{name}"
        write_part(folder, columns, replaces, version=self.version)
        place = f"{part_place(kind, self.version)}/{name}"
        if not self.publisher.add(folder, place):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), place)
        self.record()

    def drop(self, kind: PartKind, names: Iterable[str]) -> None:
        """Take parts out of the store and remove them; one that is not there is passed over."""
        for name in names:
            self.publisher.drop(f"{part_place(kind, self.version)}/{name}")
        self.record()

    def record(self) -> None:
        """Let the manifest name the parts that are there, if the format version has one."""
        if self.version > 1:
            record_parts(self.publisher)


def new_part_name(replaces: Collection[str] = ()) -> str:
    """Return a name nobody else has: the time first, so that parts list in order of writing.

    It sorts after the parts that it replaces, even if another machine's clock was ahead.
    """
    own = uuid.uuid4().hex[:12]
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{own}"
    latest = max(replaces, default="")
    return name if name > latest else f"{latest}-{own}"


def write_part(
    folder: Path, columns: Columns, replaces: Collection[str] = (), *, version: int
) -> None:
    """Write the columns as a Zarr group at a path that does not exist yet."""
    attributes: dict[str, Any] = {"digest": columns_digest(sorted(columns.items()))}
    if replaces:
        attributes["replaces"] = sorted(replaces)
    arrays = dict(columns)
    if version > 1:
        names, arrays = pack_columns(columns)
        attributes |= names
    group = open_group(str(folder), "w-", attributes)
    for name, values in arrays.items():
        _write_array(group, name, values, _DIMENSIONS.get(name) if version > 1 else None)
    if version > 1:
        _consolidate(folder, sorted(arrays))


def _write_array(
    group: zarr.Group, name: str, values: NDArray[Any], dimensions: Sequence[str] | None
) -> None:
    text = values.dtype.kind in "OTU"
    row_values = values[:1].size
    row_bytes = 64 * max(1, row_values) if text else max(1, values[:1].nbytes)
    rows = max(1, min(len(values), _CHUNK_BYTES // row_bytes))
    array = create_array(
        group,
        name,
        shape=values.shape,
        dtype="string" if text else values.dtype,
        chunks=(rows, *values.shape[1:]),
        dimension_names=dimensions,
    )
    if len(values):
        array[...] = values


def _consolidate(folder: Path, names: Sequence[str]) -> None:
    """Repeat the metadata of a part's arrays in its own, as zarr's consolidated metadata."""
    file = folder / "zarr.json"
    arrays = {name: json.loads((folder / name / "zarr.json").read_bytes()) for name in names}
    inline = {"kind": "inline", "must_understand": False, "metadata": arrays}
    found = {**json.loads(file.read_bytes()), "consolidated_metadata": inline}
    file.write_text(json.dumps(found), encoding="utf-8")
