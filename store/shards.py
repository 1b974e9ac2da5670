"""Reading token arrays: checked metadata, then bytes straight from the shard files.

A local shard is read with `preadv` into the caller's array, at the speed of a plain file; anything
else (an object store, a zip) goes through zarr. Offsets always come from the shard's own index.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
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


def read_shard_into(
    path: Path, layout: TokenLayout, layers: range, frames: range, out: NDArray[Any]
) -> None:
    """Read `frames` (counted from the shard's first) of `layers` into out [layers, frames, …].

    `out` must be C-contiguous in its last three axes. Raises `CorruptFeatureError` on a missing or
    truncated chunk and on an index whose checksum is wrong.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise CorruptFeatureError(f"{path} is missing; extract this video again") from error
    try:
        index = _shard_index(descriptor, path, layout)
        frame_bytes = layout.chunk_bytes // layout.run_frames
        for row, layer in enumerate(layers):
            target = memoryview(out[row]).cast("B")
            start = index[layer] + frames.start * frame_bytes
            _read_fully(descriptor, target, start, path)
    finally:
        os.close(descriptor)


def _shard_index(descriptor: int, path: Path, layout: TokenLayout) -> list[int]:
    """Return the offset of each layer's chunk, checked against checksum, size and file length."""
    index_bytes = layout.index_bytes
    size = os.fstat(descriptor).st_size
    if size < index_bytes:
        raise CorruptFeatureError(f"{path} is truncated to {size} bytes; extract this video again")
    raw = os.pread(descriptor, index_bytes, size - index_bytes)
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
    array: zarr.Array[Any],
    folder: Path | None,
    layout: TokenLayout,
    layers: range,
    frames: range,
    out: NDArray[Any],
) -> None:
    """Fill out [layers, frames, tokens, width] from a checked token array.

    `folder` is the array's own folder on this machine, or None where bytes are reached through
    zarr. A slice of frames may cross shards.
    """
    if folder is None:
        out[...] = cast(
            "NDArray[Any]", array[layers.start : layers.stop, frames.start : frames.stop]
        )
        return
    step = layout.run_frames
    for run in range(frames.start // step, (frames.stop - 1) // step + 1):
        first = max(frames.start, run * step)
        stop = min(frames.stop, (run + 1) * step)
        read_shard_into(
            _shard_path(folder, run),
            layout,
            layers,
            range(first - run * step, stop - run * step),
            out[:, first - frames.start : stop - frames.start],
        )


def require_backed(
    array: zarr.Array[Any], folder: Path | None, layout: TokenLayout, label: str
) -> None:
    """Raise `CorruptFeatureError` unless the shard files are as large as the layout claims.

    zarr reads a missing shard as zeros, which would pass for features; and the attributes of a
    foreign store may claim any size, so no memory is taken before files answer.
    """
    num_runs = frame_runs(layout.frames)[0]
    if folder is None:
        stored = stored_bytes(array)
        if stored < num_runs * layout.shard_bytes:
            raise CorruptFeatureError(
                f"{label}: {stored} of {num_runs * layout.shard_bytes} bytes are stored; "
                "extract it again"
            )
        return
    for run in range(num_runs):
        path = _shard_path(folder, run)
        if not path.is_file() or path.stat().st_size < layout.shard_bytes:
            raise CorruptFeatureError(
                f"{label}: {path} is missing or shorter than {layout.shard_bytes} bytes; "
                "extract it again"
            )


def _shard_path(folder: Path, run: int) -> Path:
    return folder / "c" / "0" / str(run) / "0" / "0"
