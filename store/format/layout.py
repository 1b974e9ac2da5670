"""Names, shapes and digests of format version 1: pure functions, no input or output.

Everything a reader in another language would have to re-implement is in this file.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_SHARD_FRAMES = 150
"""Most frames in one shard file: bounds a reader's buffer and keeps usual videos in one file."""

MAX_WHOLE_BYTES = 2**21
"""Most bytes of a file that is read without saying how many: of metadata."""

_MAX_NODE_BYTES = 200
_BLOCK = 2**18  # values that stay in the processor's cache
_KEPT_BYTES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
# Names that Zarr or Windows keeps for itself, as whole names or before the first dot.
_RESERVED = re.compile(
    r"(zarr\.json|c|(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?)\Z", re.IGNORECASE
)


def node_name(identifier: str) -> str:
    """Return the name of the Zarr node of a video: a pure function of its id, safe on any disk.

    Letter case is kept: on a case-folding disk two ids may clash, which readers notice because
    each node records its `video_id`.
    """
    data = identifier.encode("utf-8", "surrogatepass")
    name = "".join(chr(byte) if byte in _KEPT_BYTES else f"%{byte:02X}" for byte in data)
    if name.startswith(".") or name.startswith("__") or _RESERVED.match(name):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if name.endswith("."):
        name = f"{name[:-1]}%2E"
    if len(name) > _MAX_NODE_BYTES:
        name = f"{name[:150]}%~{hashlib.sha256(data).hexdigest()[:16]}"
    return name


def split_into_shards(num_frames: int) -> tuple[int, int]:
    """Return how many shards a video's frames are split into, and the frames of each.

    Shards are equal up to rounding: the padding of the last stays below the number of shards.
    """
    num_shards = math.ceil(num_frames / MAX_SHARD_FRAMES)
    return num_shards, math.ceil(num_frames / num_shards)


class FeatureDigest:
    """Running sha256 of a video's features: over dtype and shape, then all tokens, scale, offset.

    Bytes are little-endian in C order of [layers, frames, tokens, width], so the digest survives
    packing, merging and re-chunking.
    """

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._hash = hashlib.sha256(f"{dtype.name} {list(shape)}\n".encode())

    def update(self, values: NDArray[Any]) -> None:
        """Add the next values in C order."""
        little = values.astype(values.dtype.newbyteorder("<"), copy=False)
        self._hash.update(np.ascontiguousarray(little).view(np.uint8).data)

    def finish(self) -> str:
        """Return 'sha256:' and 64 hex digits."""
        return f"sha256:{self._hash.hexdigest()}"


class ColumnsDigest:
    """Running sha256 of a part's columns, which are added in order of their names.

    Each column adds its name and shape; strings add their UTF-8 bytes, each preceded by its
    length, numbers their little-endian bytes.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def begin(self, name: str, shape: tuple[int, ...]) -> None:
        """Start a column, whose values `update` adds in C order."""
        self._hash.update(f"{name} {list(shape)}\n".encode())

    def update(self, values: NDArray[Any]) -> None:
        """Add the column's next values."""
        if values.dtype.kind in "OTU":
            for text in values.tolist():
                data = str(text).encode("utf-8", "surrogatepass")
                self._hash.update(len(data).to_bytes(8, "little") + data)
        else:
            little = values.astype(values.dtype.newbyteorder("<"), copy=False)
            self._hash.update(np.ascontiguousarray(little).tobytes())

    def add(self, name: str, values: NDArray[Any]) -> None:
        """Add a whole column."""
        self.begin(name, values.shape)
        self.update(values)

    def finish(self) -> str:
        """Return 'sha256:' and 64 hex digits."""
        return f"sha256:{self._hash.hexdigest()}"


def columns_digest(columns: Iterable[tuple[str, NDArray[Any]]]) -> str:
    """Return the digest of columns given as (name, values) in name order."""
    digest = ColumnsDigest()
    for name, values in columns:
        digest.add(name, values)
    return digest.finish()


def has_only_finite(values: NDArray[Any]) -> bool:
    """Whether float16 values hold neither NaN nor infinity: read off the bits, 40 times quicker."""
    if values.dtype != np.float16:
        return values.dtype == np.int8 or bool(np.isfinite(values).all())
    bits = np.ascontiguousarray(values).view(np.uint16).ravel()
    return not any(
        ((bits[start : start + _BLOCK] & 0x7FFF) >= 0x7C00).any()
        for start in range(0, len(bits), _BLOCK)
    )
