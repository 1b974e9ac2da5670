"""Reading a part's arrays: their metadata is checked strictly, then their chunks are decoded.

Not through zarr: its pipeline would run whatever codecs a foreign store names, would take the
memory that the store claims, and asks for one file after another. The format has one pipeline for
numbers and one for texts, both uncompressed.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numcodecs.vlen import VLenUTF8  # pyright: ignore[reportUnknownVariableType]
from numpy.typing import NDArray
from zarr.abc.store import RangeByteRequest, Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from r2t.store.errors import CorruptFeatureError

_MAX_METADATA_BYTES = 2**20
_MAX_CHUNK_BYTES = 2**28
_MAX_ROWS = 2**28
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
_CODECS = {"string": [{"name": "vlen-utf8"}], "int8": [{"name": "bytes"}]}
# What damaged or hostile JSON makes those raise that take it apart.
_ILL_FORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Column:
    """One array of a part: `dtype` is numpy's name or "string"; chunks hold `chunk_rows` rows."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    chunk_rows: int

    @property
    def row_values(self) -> int:
        """Number of values of a row."""
        return math.prod(self.shape[1:])

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of numbers; the fewest that one of texts takes."""
        return self.row_values * (4 if self.dtype == "string" else np.dtype(self.dtype).itemsize)

    @property
    def num_chunks(self) -> int:
        """Number of chunk files."""
        return -(-self.shape[0] // self.chunk_rows)

    def chunk_key(self, number: int) -> str:
        """Return the key of a chunk in the store."""
        return "/".join([self.path, "c", str(number), *("0" for _ in self.shape[1:])])


def read_small(store: Store, keys: Sequence[str]) -> list[bytes | None]:
    """Read files of metadata, at once; None for those that are not there."""
    limit = RangeByteRequest(0, _MAX_METADATA_BYTES)
    return _read(store, [(key, limit) for key in keys])


def parse_metadata(path: str, content: bytes | None) -> dict[str, Any]:
    """Return the metadata of the node at a path; raise `CorruptFeatureError` if it is no object."""
    if content is None:
        raise CorruptFeatureError(f"{path}/zarr.json is missing")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CorruptFeatureError(f"{path}/zarr.json is damaged: {error!r}") from error
    if not isinstance(found, dict):
        raise CorruptFeatureError(f"{path}/zarr.json is damaged: it holds no object")
    return cast("dict[str, Any]", found)


def read_metadata(store: Store, paths: Sequence[str]) -> list[Column]:
    """Read the metadata of arrays, at once; raise `CorruptFeatureError` unless they are legal."""
    contents = read_small(store, [f"{path}/zarr.json" for path in paths])
    return [
        parse_column(path, parse_metadata(path, content))
        for path, content in zip(paths, contents, strict=True)
    ]


def parse_column(path: str, found: Any) -> Column:
    """Return what the metadata of an array says; raise `CorruptFeatureError` unless it is legal."""
    try:
        dtype, shape = found["data_type"], found["shape"]
        chunks = found["chunk_grid"]["configuration"]["chunk_shape"]
        whole = all(type(count) is int and count >= 0 for count in [*shape, *chunks])
        codecs = [
            {key: value for key, value in codec.items() if value != {}} for codec in found["codecs"]
        ]
        legal = (
            found["node_type"] == "array"
            and found["chunk_grid"]["name"] == "regular"
            and found["chunk_key_encoding"]
            == {"name": "default", "configuration": {"separator": "/"}}
            and codecs == _CODECS.get(dtype, [_LITTLE])
            and not found.get("storage_transformers")
            and whole
            and len(chunks) == len(shape) > 0
            and chunks[0] > 0
            and chunks[1:] == shape[1:]
            and shape[0] <= _MAX_ROWS
        )
        column = Column(path, tuple(shape), dtype, chunks[0])
        legal = legal and column.chunk_rows * column.row_bytes <= _MAX_CHUNK_BYTES
    except _ILL_FORMED as error:
        raise CorruptFeatureError(f"{path}/zarr.json is damaged: {error!r}") from error
    if not legal:
        raise CorruptFeatureError(
            f"{path}/zarr.json describes no array that a part may have: uncompressed little-endian "
            f"numbers or UTF-8 texts in chunks of rows; found {dtype} {shape} in {chunks}"
        )
    return column


def read_columns(store: Store, columns: Iterable[Column]) -> list[NDArray[Any]]:
    """Read whole arrays, all chunks at once."""
    columns = list(columns)
    wanted: list[tuple[str, RangeByteRequest]] = []
    for column in columns:
        most = _MAX_CHUNK_BYTES
        if column.dtype != "string":
            most = column.chunk_rows * column.row_bytes + 1
        wanted += [
            (column.chunk_key(number), RangeByteRequest(0, most))
            for number in range(column.num_chunks)
        ]
    contents = iter(zip(wanted, _read(store, wanted), strict=True))
    arrays: list[NDArray[Any]] = []
    for column in columns:
        chunks = [
            _decode(column, key, content)
            for (key, _), content in (next(contents) for _ in range(column.num_chunks))
        ]
        empty = np.empty(
            (0, *column.shape[1:]),
            np.dtypes.StringDType() if column.dtype == "string" else column.dtype,
        )
        values = np.concatenate(chunks) if len(chunks) > 1 else [*chunks, empty][0]
        arrays.append(values[: column.shape[0]])
    return arrays


def read_column_rows(store: Store, column: Column, start: int, stop: int) -> NDArray[Any]:
    """Read some rows of an array of numbers; moves only their bytes."""
    pieces: list[tuple[str, RangeByteRequest]] = []
    for number in range(start // column.chunk_rows, -(-stop // column.chunk_rows)):
        first = max(start - number * column.chunk_rows, 0)
        last = min(stop - number * column.chunk_rows, column.chunk_rows)
        span = RangeByteRequest(first * column.row_bytes, last * column.row_bytes)
        pieces.append((column.chunk_key(number), span))
    content = b"".join(piece or b"" for piece in _read(store, pieces))
    if len(content) != (stop - start) * column.row_bytes:
        raise CorruptFeatureError(
            f"{column.path}: rows {start} to {stop} are gone or cut short; if the store was "
            "repaired or changed meanwhile, open it again"
        )
    return np.frombuffer(content, column.dtype).reshape(stop - start, *column.shape[1:])


def _decode(column: Column, key: str, content: bytes | None) -> NDArray[Any]:
    if content is None:
        raise CorruptFeatureError(
            f"{key} is missing; if the store was repaired or changed meanwhile, open it again"
        )
    shape = (column.chunk_rows, *column.shape[1:])
    if column.dtype != "string":
        expected = column.chunk_rows * column.row_bytes
        if len(content) != expected:
            raise CorruptFeatureError(f"{key} holds {len(content)} bytes, expected {expected}")
        return np.frombuffer(content, column.dtype).reshape(shape)
    # The decoder takes memory for as many texts as the first four bytes claim.
    num_texts = column.chunk_rows * column.row_values
    if int.from_bytes(content[:4], "little") != num_texts or len(content) < 4 + 4 * num_texts:
        raise CorruptFeatureError(f"{key} holds fewer than the {num_texts} texts it should")
    try:
        texts = cast("Any", VLenUTF8().decode(content))  # pyright: ignore[reportUnknownMemberType]
        return texts.astype(np.dtypes.StringDType()).reshape(shape)
    except ValueError as error:  # UnicodeDecodeError among them
        raise CorruptFeatureError(f"{key} is damaged: {error}") from error


def _read(store: Store, wanted: Sequence[tuple[str, RangeByteRequest]]) -> list[bytes | None]:
    prototype = default_buffer_prototype()
    limit = asyncio.Semaphore(16)

    async def one(key: str, span: RangeByteRequest) -> bytes | None:
        async with limit:
            buffer = await store.get(key, prototype, span)
        return None if buffer is None else buffer.to_bytes()

    async def every() -> list[bytes | None]:
        return list(await asyncio.gather(*(one(key, span) for key, span in wanted)))

    return sync(every())
