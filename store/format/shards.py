"""Where tokens lie in shards, and shard files on this machine: reading and writing them.

A shard is read with `preadv` into the caller's memory, at the speed of a plain file. Offsets always
come from the shard's own index. A whole shard is written as zarr writes it, byte for byte, but
without the copies that zarr makes of it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, cast

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray

from r2t.store.errors import CorruptFeatureError
from r2t.store.format.layout import TokenLayout
from r2t.store.format.nodes import require_inside, zarr_reads

_MISSING = 2**64 - 1
_BLOCK_BYTES = 2**20  # what stays in a processor's cache until it is used


def require_layout(array: zarr.Array[Any], layout: TokenLayout, label: str) -> None:
    """Raise `CorruptFeatureError` unless the array is laid out as the format says."""
    legal = (layout.shape, layout.dtype, layout.chunk_shape, layout.shard_shape)
    with zarr_reads(label):
        found = (array.shape, array.dtype, array.chunks, array.shards)
        metadata = cast("Any", array.metadata).to_dict()
    if found != legal or not _is_plain(metadata, layout.chunk_shape, layout.dtype):
        raise CorruptFeatureError(
            f"{label}: tokens have (shape, dtype, chunks, shards) = {found}, the format "
            f"has {legal} here, uncompressed; extract this video again"
        )


def _is_plain(
    metadata: Mapping[str, Any], chunk_shape: tuple[int, ...], dtype: np.dtype[Any]
) -> bool:
    """Whether chunks are bare little-endian numbers, with the index of offsets at a shard's end."""
    codecs, separator = metadata["codecs"], metadata["chunk_key_encoding"]
    if len(codecs) != 1 or separator != {
        "name": "default",
        "configuration": {"separator": "/"},
    }:
        return False
    sharding = codecs[0]["configuration"]
    numbers = {"name": "bytes", "configuration": {"endian": "little"}}
    one_byte = {"name": "bytes"}
    inner = tuple({k: v for k, v in codec.items() if v != {}} for codec in sharding["codecs"])
    return (
        inner == ((numbers,) if dtype.itemsize > 1 else (one_byte,))
        and tuple(sharding["index_codecs"]) == (numbers, {"name": "crc32c"})
        and str(getattr(sharding["index_location"], "value", sharding["index_location"])) == "end"
        and tuple(sharding["chunk_shape"]) == chunk_shape
    )


@dataclass(frozen=True)
class ByteRange:
    """Consecutive bytes of a file on this machine."""

    path: Path
    offset: int
    num_bytes: int


@dataclass(frozen=True)
class ShardRange:
    """Consecutive bytes of one of an array's shards, which are numbered from 0."""

    shard: int
    offset: int
    num_bytes: int


def find_shard_ranges(
    layout: TokenLayout,
    layers: range,
    frames: range,
    read_indexes: Callable[[range], Iterable[list[int]]],
) -> list[ShardRange]:
    """Return where tokens lie, in C order of [layers, frames, …].

    `read_indexes` yields each shard's chunk offsets. It fails at the first shard that is not there,
    since a foreign store may claim more of them than any memory holds.
    """
    step = layout.shard_frames
    frame_bytes = layout.chunk_bytes // step
    shards = range(frames.start // step, (frames.stop - 1) // step + 1)
    indexes = list(read_indexes(shards))
    ranges: list[ShardRange] = []
    for layer in layers:
        for shard, offsets in zip(shards, indexes, strict=True):
            first = max(frames.start - shard * step, 0)
            stop = min(frames.stop - shard * step, step)
            start = offsets[layer] + first * frame_bytes
            ranges.append(ShardRange(shard, start, (stop - first) * frame_bytes))
    return ranges


def locate_tokens(
    folder: Path, layout: TokenLayout, layers: range, frames: range
) -> list[ByteRange]:
    """Return where the tokens of these layers and frames lie, in C order of [layers, frames, …].

    Read one after another, the ranges are the array; so a reader may `preadv` them straight into
    a buffer of its own. `folder` is the local folder of a token array that `require_layout`
    accepted. Costs one open and one read of an index per shard; the answer stays true, because a
    committed video never changes. Raises `CorruptFeatureError` on a missing or truncated shard or
    chunk, and on an index whose checksum is wrong.
    """

    def path(shard: int) -> Path:
        return folder / shard_key("", shard)

    ranges = find_shard_ranges(
        layout,
        layers,
        frames,
        lambda shards: (_shard_index(path(shard), layout) for shard in shards),
    )
    return [ByteRange(path(part.shard), part.offset, part.num_bytes) for part in ranges]


def read_ranges(ranges: Iterable[ByteRange], *outs: memoryview) -> None:
    """Fill `outs`, bytes, one after another with ranges that `locate_tokens` found.

    No range may reach from one of them into the next.
    """
    waiting, out = iter(outs), memoryview(b"")
    done = 0
    with contextlib.ExitStack() as opened:
        descriptors: dict[Path, int] = {}
        for part in ranges:
            if part.path not in descriptors:
                descriptors[part.path] = _open(part.path)
                opened.callback(os.close, descriptors[part.path])
            if done == len(out):
                out, done = next(waiting), 0
            target = out[done : done + part.num_bytes]
            _read_fully(descriptors[part.path], target, part.offset, part.path)
            done += part.num_bytes


def _open(path: Path) -> int:
    """Open a plain file: no link, and no pipe, which might never answer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise CorruptFeatureError(f"{path} is missing; extract this video again") from error
    except OSError as error:
        raise CorruptFeatureError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CorruptFeatureError(f"{path} is no file")
    return descriptor


def _shard_index(path: Path, layout: TokenLayout) -> list[int]:
    require_inside(path)
    descriptor = _open(path)
    try:
        size = os.fstat(descriptor).st_size
        raw = os.pread(descriptor, layout.index_bytes, max(size - layout.index_bytes, 0))
    finally:
        os.close(descriptor)
    return parse_index(raw, size, layout, str(path))


def parse_index(raw: bytes, size: int, layout: TokenLayout, name: str) -> list[int]:
    """Return the offset of each layer's chunk in a shard of `size` bytes that `raw` ends.

    Raises `CorruptFeatureError` unless checksum, sizes and the file's length agree.
    """
    if size < layout.shard_bytes or len(raw) != layout.index_bytes:
        raise CorruptFeatureError(
            f"{name} is shorter than {layout.shard_bytes} bytes; extract this video again"
        )
    body, checksum = raw[:-4], struct.unpack("<I", raw[-4:])[0]
    computed = cast("int", google_crc32c.value(body))  # pyright: ignore[reportUnknownMemberType]
    if computed != checksum:
        raise CorruptFeatureError(
            f"{name}: the shard index fails its checksum; extract this video again"
        )
    entries = struct.unpack(f"<{2 * layout.layers}Q", body)
    offsets = entries[0::2]
    for offset, length in zip(offsets, entries[1::2], strict=True):
        if (
            offset == _MISSING
            or length != layout.chunk_bytes
            or offset + length > size - layout.index_bytes
        ):
            raise CorruptFeatureError(
                f"{name}: a chunk is missing or has another size; extract this video again"
            )
    return list(offsets)


def _read_fully(descriptor: int, target: memoryview, start: int, path: Path) -> None:
    done = 0
    while done < len(target):
        count = os.preadv(descriptor, [target[done:]], start + done)
        if count == 0:
            raise CorruptFeatureError(f"{path} ends too early; extract this video again")
        done += count


def read_blocks(ranges: Iterable[ByteRange]) -> Iterator[NDArray[np.uint8]]:
    """Yield the bytes of ranges in order, some at a time; each is overwritten by the next."""
    block = np.empty(_BLOCK_BYTES, np.uint8)
    for part in ranges:
        descriptor = _open(part.path)
        try:
            for done in range(0, part.num_bytes, _BLOCK_BYTES):
                piece = block[: part.num_bytes - done]
                _read_fully(descriptor, piece.data, part.offset + done, part.path)
                yield piece
        finally:
            os.close(descriptor)


def write_shard(folder: Path, layout: TokenLayout, number: int, frames: NDArray[Any]) -> None:
    """Write the shard of a number, counted from 0, into the folder of a token array.

    `frames` [layers, frames, tokens, width] are all that it holds; zeros fill up the last shard.
    """
    path = folder / shard_key("", number)
    path.parent.mkdir(parents=True, exist_ok=True)
    padding = bytes(layout.chunk_bytes - frames[0].nbytes)
    index = struct.pack(
        f"<{2 * layout.layers}Q",
        *(value for layer in range(layout.layers) for value in _extent(layer, layout)),
    )
    checksum = cast("int", google_crc32c.value(index))  # pyright: ignore[reportUnknownMemberType]
    with path.open("xb", buffering=0) as file:
        for layer in frames:
            _write_fully(file, np.ascontiguousarray(layer).data.cast("B"))
            _write_fully(file, memoryview(padding))
        _write_fully(file, memoryview(index + struct.pack("<I", checksum)))


def _extent(layer: int, layout: TokenLayout) -> tuple[int, int]:
    return layer * layout.chunk_bytes, layout.chunk_bytes


def _write_fully(file: FileIO, data: memoryview) -> None:
    while len(data):
        data = data[file.write(data) :]


def shard_key(folder: str, shard: int) -> str:
    """Return the key of a shard below that of its array."""
    return f"{folder}/c/0/{shard}/0/0".lstrip("/")
