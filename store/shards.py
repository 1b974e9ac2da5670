"""Reading token arrays: checked metadata, then bytes straight from the shard files.

A local shard is read with `preadv` into the caller's array, at the speed of a plain file; anything
else (an object store, a zip) goes through zarr. Offsets always come from the shard's own index.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray

from r2t.store.errors import CorruptFeatureError
from r2t.store.layout import frame_runs
from r2t.store.nodes import stored_bytes

_MISSING = 2**64 - 1


@dataclass(frozen=True)
class TokenLayout:
    """Shape of one video's tokens and of the shards that hold them."""

    layers: int
    frames: int
    tokens: int
    width: int
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the whole array: [layers, frames, tokens, width]."""
        return (self.layers, self.frames, self.tokens, self.width)

    @property
    def run_frames(self) -> int:
        """Frames per shard file, padding included."""
        return frame_runs(self.frames)[1]

    @property
    def chunk_shape(self) -> tuple[int, int, int, int]:
        """Shape of an inner chunk: one layer of one run."""
        return (1, self.run_frames, self.tokens, self.width)

    @property
    def shard_shape(self) -> tuple[int, int, int, int]:
        """Shape of a shard: all layers of one run."""
        return (self.layers, self.run_frames, self.tokens, self.width)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one inner chunk."""
        return self.run_frames * self.tokens * self.width * self.dtype.itemsize

    @property
    def index_bytes(self) -> int:
        """Bytes of the index that ends a shard: offset and size of each chunk, then a checksum."""
        return 16 * self.layers + 4

    @property
    def shard_bytes(self) -> int:
        """Bytes of a shard file in which each chunk lies once."""
        return self.layers * self.chunk_bytes + self.index_bytes

    def require(self, array: zarr.Array[Any], label: str) -> None:
        """Raise `CorruptFeatureError` unless the array is laid out as format version 1 says."""
        found = (array.shape, array.dtype, array.chunks, array.shards)
        legal = (self.shape, self.dtype, self.chunk_shape, self.shard_shape)
        if found != legal or array.compressors:
            raise CorruptFeatureError(
                f"{label}: tokens have (shape, dtype, chunks, shards) = {found}, format version 1 "
                f"has {legal} here, uncompressed; extract this video again"
            )


@dataclass(frozen=True)
class ByteRange:
    """Consecutive bytes of a file on this machine."""

    path: Path
    offset: int
    num_bytes: int


def locate_tokens(
    folder: Path, layout: TokenLayout, layers: range, frames: range
) -> list[ByteRange]:
    """Return where the tokens of these layers and frames lie, in C order of [layers, frames, …].

    Read one after another, the ranges are the array; so a reader may `preadv` them straight into
    a buffer of its own. `folder` is the local folder of a token array that `TokenLayout.require`
    accepted. Costs one open and one read of an index per shard; the answer stays true, because a
    committed video never changes. Raises `CorruptFeatureError` on a missing or truncated shard or
    chunk, and on an index whose checksum is wrong.
    """
    step = layout.run_frames
    frame_bytes = layout.chunk_bytes // step
    runs = range(frames.start // step, (frames.stop - 1) // step + 1)
    # One shard after another: a foreign store may claim more of them than there are.
    shards = [
        (path, _shard_index(path, layout)) for path in map(partial(_shard_path, folder), runs)
    ]
    ranges: list[ByteRange] = []
    for layer in layers:
        for run, (path, offsets) in zip(runs, shards, strict=True):
            first = max(frames.start - run * step, 0)
            stop = min(frames.stop - run * step, step)
            start = offsets[layer] + first * frame_bytes
            ranges.append(ByteRange(path, start, (stop - first) * frame_bytes))
    return ranges


def read_ranges(ranges: Iterable[ByteRange], out: memoryview) -> None:
    """Fill `out`, bytes, with ranges that `locate_tokens` found."""
    done = 0
    with contextlib.ExitStack() as opened:
        descriptors: dict[Path, int] = {}
        for part in ranges:
            if part.path not in descriptors:
                descriptors[part.path] = _open(part.path)
                opened.callback(os.close, descriptors[part.path])
            target = out[done : done + part.num_bytes]
            _read_fully(descriptors[part.path], target, part.offset, part.path)
            done += part.num_bytes


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise CorruptFeatureError(f"{path} is missing; extract this video again") from error


def _shard_index(path: Path, layout: TokenLayout) -> list[int]:
    """Return the offset of each layer's chunk, checked against checksum, size and file length."""
    index_bytes = layout.index_bytes
    descriptor = _open(path)
    try:
        size = os.fstat(descriptor).st_size
        raw = os.pread(descriptor, index_bytes, max(size - index_bytes, 0))
    finally:
        os.close(descriptor)
    if size < layout.shard_bytes:
        raise CorruptFeatureError(
            f"{path} is shorter than {layout.shard_bytes} bytes; extract this video again"
        )
    body, checksum = raw[:-4], struct.unpack("<I", raw[-4:])[0]
    computed = cast("int", google_crc32c.value(body))  # pyright: ignore[reportUnknownMemberType]
    if computed != checksum:
        raise CorruptFeatureError(
            f"{path}: the shard index fails its checksum; extract this video again"
        )
    entries = struct.unpack(f"<{2 * layout.layers}Q", body)
    offsets = entries[0::2]
    for offset, length in zip(offsets, entries[1::2], strict=True):
        if (
            offset == _MISSING
            or length != layout.chunk_bytes
            or offset + length > size - index_bytes
        ):
            raise CorruptFeatureError(
                f"{path}: a chunk is missing or has another size; extract this video again"
            )
    return list(offsets)


def _read_fully(descriptor: int, target: memoryview, start: int, path: Path) -> None:
    done = 0
    while done < len(target):
        count = os.preadv(descriptor, [target[done:]], start + done)
        if count == 0:
            raise CorruptFeatureError(f"{path} ends too early; extract this video again")
        done += count


def read_tokens(
    folder: Path, layout: TokenLayout, layers: range, frames: range, out: NDArray[Any]
) -> None:
    """Fill out [layers, frames, tokens, width], C-contiguous, from a local token array."""
    read_ranges(locate_tokens(folder, layout, layers, frames), out.data.cast("B"))


def require_backed(array: zarr.Array[Any], layout: TokenLayout, label: str) -> None:
    """Raise `CorruptFeatureError` unless a remote array stores as much as the layout claims.

    zarr reads a missing shard as zeros, which would pass for features; and the attributes of a
    foreign store may claim any size, so no memory is taken before files answer.
    """
    claimed = frame_runs(layout.frames)[0] * layout.shard_bytes
    stored = stored_bytes(array)
    if stored < claimed:
        raise CorruptFeatureError(
            f"{label}: {stored} of {claimed} bytes are stored; extract it again"
        )


def _shard_path(folder: Path, run: int) -> Path:
    return folder / "c" / "0" / str(run) / "0" / "0"
