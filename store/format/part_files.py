"""The files of a part: its columns are written and digested as they come, never all in memory."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from r2t.store.format.layout import ColumnsDigest
from r2t.store.format.nodes import create_array, open_group
from r2t.store.format.packing import PACKED, pack_columns
from r2t.store.format.parts import WIDE

_CHUNK_BYTES = 16 * 2**20
_TEXT_BYTES = 64  # of one text, about
_APART_ROWS = 10_000
_APART_CHUNK_BYTES = 4 * 2**20
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
class Streamed:
    """A column that comes in blocks along its first axis, each taken once."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blocks: Iterable[NDArray[Any]]


GivenColumns = Mapping[str, "NDArray[Any] | Streamed"]


def write_part(
    folder: Path,
    columns: GivenColumns,
    replaces: Collection[str] = (),
    *,
    version: int,
    facts: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Write the columns as a Zarr group at a path that does not exist yet, `facts` beside them.

    Blocks are taken in the order of the columns' names. Those of a wide column go to the disk, the
    other columns are held in memory.
    """
    group = open_group(str(folder), "w-")
    digest = ColumnsDigest()
    plain: dict[str, NDArray[Any]] = {}
    for name, given in sorted(columns.items()):
        column = given if isinstance(given, Streamed) else _whole(given)
        digest.begin(name, column.shape)
        if name in WIDE:
            _write_stream(group, name, column, digest, version)
            continue
        blocks = list(column.blocks)
        for block in blocks:
            digest.update(block)
        plain[name] = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    attributes: dict[str, Any] = {**facts, "digest": digest.finish()}
    if replaces:
        attributes["replaces"] = sorted(replaces)
    if version > 1:
        # In the order in which they are given: the attributes name it.
        names, plain = pack_columns({name: plain[name] for name in columns if name in plain})
        attributes |= names
    for name, values in plain.items():
        _write_stream(group, name, _whole(values), None, version)
    group.attrs.update(attributes)
    if version > 1:
        _consolidate(folder, sorted([*plain, *(name for name in columns if name in WIDE)]))


def _whole(values: NDArray[Any]) -> Streamed:
    return Streamed(values.shape, values.dtype, [values])


def _write_stream(
    group: zarr.Group, name: str, column: Streamed, digest: ColumnsDigest | None, version: int
) -> None:
    """Write an array, whole chunks at a time."""
    array = _make_array(group, name, column, version)
    num_rows, chunk_rows = column.shape[0], array.chunks[0]
    start, held = 0, np.empty((0, *column.shape[1:]), column.dtype)
    for block in column.blocks:
        if digest is not None:
            digest.update(block)
        held = np.concatenate([held, block]) if len(held) else block
        ready = len(held) - len(held) % chunk_rows if start + len(held) < num_rows else len(held)
        if ready:
            array[start : start + ready] = held[:ready]
            start, held = start + ready, held[ready:]
    if start != num_rows:
        raise ValueError(f"{name} has {start} rows, not {num_rows}")


def _make_array(group: zarr.Group, name: str, column: Streamed, version: int) -> zarr.Array[Any]:
    """Make an array; of many rows each packed column has chunks of its own, to be read alone."""
    text, num_rows = column.dtype.kind in "OTU", column.shape[0]
    value_bytes = _TEXT_BYTES if text else column.dtype.itemsize
    apart = name in PACKED and version > 1 and num_rows > _APART_ROWS
    inner = (1,) if apart else column.shape[1:]
    row_bytes = max(1, value_bytes * int(np.prod(inner)))
    rows = max(1, min(num_rows, (_APART_CHUNK_BYTES if apart else _CHUNK_BYTES) // row_bytes))
    dimensions: Sequence[str] | None = _DIMENSIONS.get(name) if version > 1 else None
    return create_array(
        group,
        name,
        shape=column.shape,
        dtype="string" if text else column.dtype,
        chunks=(rows, *inner),
        dimension_names=dimensions,
    )


def _consolidate(folder: Path, names: Sequence[str]) -> None:
    """Repeat the metadata of a part's arrays in its own, as zarr's consolidated metadata."""
    file = folder / "zarr.json"
    arrays = {name: json.loads((folder / name / "zarr.json").read_bytes()) for name in names}
    inline = {"kind": "inline", "must_understand": False, "metadata": arrays}
    found = {**json.loads(file.read_bytes()), "consolidated_metadata": inline}
    file.write_text(json.dumps(found), encoding="utf-8")
