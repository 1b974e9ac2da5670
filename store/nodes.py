"""The two ways this package makes Zarr nodes, typed where zarr's own signatures are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import zarr

_open_group = cast("Callable[..., zarr.Group]", zarr.open_group)  # pyright: ignore[reportUnknownMemberType]
_Mode = Literal["r", "a", "w-"]


def open_group(
    location: str, mode: _Mode, attributes: Mapping[str, Any] | None = None
) -> zarr.Group:
    """Open or make a Zarr v3 group."""
    return _open_group(location, mode=mode, zarr_format=3, attributes=attributes)


def create_array(
    group: zarr.Group,
    name: str,
    *,
    shape: Sequence[int],
    dtype: np.dtype[Any] | str,
    chunks: Sequence[int],
    shards: Sequence[int] | None = None,
    dimension_names: Sequence[str] | None = None,
) -> zarr.Array[Any]:
    """Make an uncompressed array all of whose chunks are written.

    float16 tokens shrink by 1 to 9 % and compression halves the reading speed; a chunk left out
    because it holds only zeros could not be told from one that was lost.
    """
    return group.create_array(
        name,
        shape=tuple(shape),
        dtype=dtype,
        chunks=tuple(chunks),
        shards=None if shards is None else tuple(shards),
        dimension_names=dimension_names,
        compressors=None,
        config={"write_empty_chunks": True},
    )
