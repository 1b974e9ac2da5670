"""Reading a part's arrays: their metadata is checked strictly, then their chunks are decoded.

Not through zarr: its pipeline would run whatever codecs a foreign store names, would take the
memory that the store claims, and asks for one file after another. The format has one pipeline for
numbers and one for texts, both uncompressed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numcodecs.vlen import VLenUTF8  # pyright: ignore[reportUnknownVariableType]
from numpy.typing import NDArray
from zarr.abc.store import Store

from r2t.store.errors import CorruptFeatureError
from r2t.store.format.ranges import Span, as_ranged, read_spans

_MAX_METADATA_BYTES = 2**20
_MAX_CHUNK_BYTES = 2**28
_MAX_ROWS = 2**28
_MAX_CHUNKS = 2**16
_PIECE_BYTES = 2**23  # many are read at once
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
_CODECS = {"string": [{"name": "vlen-utf8"}], "int8": [{"name": "bytes"}]}
# What damaged or hostile JSON makes those raise that take it apart.
_ILL_FORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Column:
    """One array of a part: `dtype` is numpy's name or "string"; chunks hold `chunk_rows` rows.

    Where an array [row, column] keeps its columns `apart`, each has chunks of its own: `at` is one
    of them. `tail` says where chunks lie along the other axes.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    chunk_rows: int
    tail: tuple[int, ...]
    apart: bool = False

    @property
    def row_values(self) -> int:
        """Number of values that a chunk has of a row."""
        return 1 if self.apart else math.prod(self.shape[1:])

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of numbers in a chunk; the fewest that one of texts takes."""
        return self.row_values * (4 if self.dtype == "string" else np.dtype(self.dtype).itemsize)

    @property
    def num_chunks(self) -> int:
        """Number of chunk files along the first axis."""
        return -(-self.shape[0] // self.chunk_rows)

    def at(self, place: int) -> Column:
        """Return one column of an array that keeps them apart."""
        return replace(self, shape=self.shape[:1], tail=(place,), apart=False)

    def chunk_key(self, number: int) -> str:
        """Return the key of a chunk in the store."""
        return "/".join([self.path, "c", *map(str, (number, *self.tail))])


def read_small(store: Store, keys: Sequence[str]) -> list[bytes | None]:
    """Read files of metadata, at once; None for those that are not there."""
    return list(read_spans(store, [(key, 0, _MAX_METADATA_BYTES) for key in keys]))


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


def parse_column(path: str, found: Any, *, may_be_apart: bool = False) -> Column:
    """Return what the metadata of an array says; raise `CorruptFeatureError` unless it is legal."""
    try:
        dtype, shape = found["data_type"], found["shape"]
        chunks = found["chunk_grid"]["configuration"]["chunk_shape"]
        whole = all(type(count) is int and count >= 0 for count in [*shape, *chunks])
        apart = may_be_apart and len(shape) == 2 and chunks[1:] == [1] != shape[1:]
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
            and (apart or chunks[1:] == shape[1:])
            and shape[0] <= _MAX_ROWS
        )
        tail = (0,) * (len(shape) - 1)
        column = Column(path, tuple(shape), dtype, chunks[0], tail, apart)
        legal = legal and column.chunk_rows * column.row_bytes <= _MAX_CHUNK_BYTES
        legal = legal and column.num_chunks <= _MAX_CHUNKS
    except _ILL_FORMED as error:
        raise CorruptFeatureError(f"{path}/zarr.json is damaged: {error!r}") from error
    if not legal:
        raise CorruptFeatureError(
            f"{path}/zarr.json describes no array that a part may have: uncompressed little-endian "
            f"numbers or UTF-8 texts in chunks of rows; found {dtype} {shape} in {chunks}"
        )
    return column


def read_columns(store: Store, columns: Sequence[Column]) -> Iterator[NDArray[Any]]:
    """Yield whole arrays, in order; many pieces of their chunks are read at once."""
    pieces = [
        [_pieces(column, number) for number in range(column.num_chunks)] for column in columns
    ]
    contents = read_spans(store, [span for each in pieces for spans in each for span in spans])
    for column, spans in zip(columns, pieces, strict=True):
        chunks = [_read_chunk(store, column, each, contents) for each in spans]
        empty = np.empty(
            (0, *column.shape[1:]),
            np.dtypes.StringDType() if column.dtype == "string" else column.dtype,
        )
        values = np.concatenate(chunks) if len(chunks) > 1 else [*chunks, empty][0]
        yield values[: column.shape[0]]


def read_column_rows(store: Store, column: Column, start: int, stop: int) -> NDArray[Any]:
    """Read some rows of an array of numbers; moves only their bytes."""
    spans: list[Span] = []
    for number in range(start // column.chunk_rows, -(-stop // column.chunk_rows)):
        first = max(start - number * column.chunk_rows, 0)
        last = min(stop - number * column.chunk_rows, column.chunk_rows)
        key = column.chunk_key(number)
        spans.append((key, first * column.row_bytes, last * column.row_bytes))
    content = b"".join(piece or b"" for piece in read_spans(store, spans))
    if len(content) != (stop - start) * column.row_bytes:
        raise CorruptFeatureError(
            f"{column.path}: rows {start} to {stop} are gone or cut short; if the store was "
            "repaired or changed meanwhile, open it again"
        )
    return np.frombuffer(content, column.dtype).reshape(stop - start, *column.shape[1:])


def _pieces(column: Column, number: int) -> list[Span]:
    """Return what to read of a chunk: of texts only the beginning, since nothing tells the end."""
    key = column.chunk_key(number)
    if column.dtype == "string":
        return [(key, 0, _PIECE_BYTES)]
    num_bytes = column.chunk_rows * column.row_bytes
    starts = range(0, max(num_bytes, 1), _PIECE_BYTES)
    stops = [*starts[1:], num_bytes + 1]  # one more, to see that there is none
    return [(key, start, stop) for start, stop in zip(starts, stops, strict=True)]


def _read_chunk(
    store: Store, column: Column, spans: Sequence[Span], contents: Iterator[bytes | None]
) -> NDArray[Any]:
    found = [next(contents) for _ in spans]
    content = found[0]
    if content is not None and len(spans) > 1:
        content = b"".join(piece or b"" for piece in found)
    if content is not None and column.dtype == "string" and len(content) == _PIECE_BYTES:
        key, _, last = spans[-1]
        # From the last byte on, since some servers refuse a range that begins at the end.
        rest = as_ranged(store).read_range(key, last - 1, _MAX_CHUNK_BYTES)
        content += (rest or b"")[1:]
    return _decode(column, spans[0][0], content)


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
