"""Names, shapes and digests of the format: pure functions, no input or output.

Everything a reader in another language would have to re-implement is in this file.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2t.store.schema import FeatureSpec

MAX_SHARD_FRAMES = 150
"""Most frames in one shard file: bounds a reader's buffer and keeps usual videos in one file."""

VIDEO_DIMENSIONS = {
    "tokens": ("layer", "frame", "token", "channel"),
    "scale": ("layer", "channel"),
    "offset": ("layer", "channel"),
    "embedding": ("frame", "embedding_channel"),
}
"""What the axes of a video's arrays are called, from format version 2 on."""

MAX_EMBEDDING_ROWS = 2**14
"""Most frames in one chunk of embeddings."""

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
    return _split(num_frames, MAX_SHARD_FRAMES)


def split_embedding(num_frames: int) -> tuple[int, int]:
    """Return how many chunks a video's embeddings are split into, and the frames of each."""
    return _split(num_frames, MAX_EMBEDDING_ROWS)


def _split(num_frames: int, most: int) -> tuple[int, int]:
    num_pieces = math.ceil(num_frames / most)
    return num_pieces, math.ceil(num_frames / num_pieces)


@dataclass(frozen=True)
class TokenLayout:
    """Shape of one video's tokens and of the shards that hold them."""

    layers: int
    frames: int
    tokens: int
    width: int
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, spec: FeatureSpec, num_frames: int) -> TokenLayout:
        """Return how a store of this spec lays out a video of so many frames."""
        dtype = np.dtype("<f2") if spec.dtype == "float16" else np.dtype(np.int8)
        return cls(spec.num_layers, num_frames, spec.num_tokens, spec.vision_width, dtype)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the whole array: [layers, frames, tokens, width]."""
        return (self.layers, self.frames, self.tokens, self.width)

    @property
    def shard_frames(self) -> int:
        """Frames per shard file, padding included."""
        return split_into_shards(self.frames)[1]

    @property
    def num_shards(self) -> int:
        """Number of shard files."""
        return split_into_shards(self.frames)[0]

    def shards(self) -> Iterator[slice]:
        """Yield the frames that each shard holds."""
        for start in range(0, self.frames, self.shard_frames):
            yield slice(start, min(start + self.shard_frames, self.frames))

    @property
    def chunk_shape(self) -> tuple[int, int, int, int]:
        """Shape of an inner chunk: one layer of a shard's frames."""
        return (1, self.shard_frames, self.tokens, self.width)

    @property
    def shard_shape(self) -> tuple[int, int, int, int]:
        """Shape of a shard: all layers of its frames."""
        return (self.layers, self.shard_frames, self.tokens, self.width)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one inner chunk."""
        return self.shard_frames * self.tokens * self.width * self.dtype.itemsize

    @property
    def index_bytes(self) -> int:
        """Bytes of the index that ends a shard: offset and size of each chunk, then a checksum."""
        return 16 * self.layers + 4

    @property
    def shard_bytes(self) -> int:
        """Bytes of a shard file in which each chunk lies once."""
        return self.layers * self.chunk_bytes + self.index_bytes


class FeatureDigest:
    """Running sha256 of a video's features: over dtype and shape, then all tokens, scale, offset.

    Bytes are little-endian in C order of [layers, frames, tokens, width], so the digest survives
    packing, merging and re-chunking. Embeddings [frames, embedding_width] have one of their own.
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
