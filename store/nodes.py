"""How this package makes Zarr nodes: typed where zarr is not, with errors that say what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import zarr
from zarr.core.sync import sync

from r2t.store.errors import CorruptFeatureError, R2TError, StoreError

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


def child_names(group: zarr.Group) -> list[str]:
    """Return the names of the nodes in a group, sorted; whatever else lies there is passed over.

    Lists the keys themselves: in a zip, zarr's own listing of a group finds only the group.
    """

    async def collect() -> list[str]:
        return [key async for key in group.store.list_prefix(f"{group.path}/")]

    paths = (key.removeprefix(f"{group.path}/").split("/") for key in sync(collect()))
    return sorted(path[0] for path in paths if path[1:] == ["zarr.json"])


def stored_bytes(array: zarr.Array[Any]) -> int:
    """Bytes that an array's chunks take in storage, whatever its metadata claims."""
    return sync(array.store_path.store.getsize_prefix(f"{array.path}/c"))


@contextlib.contextmanager
def storage_errors(path: Path) -> Generator[None]:
    """Turn what the disk refuses into a `StoreError`."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            f"cannot write into {path}: {error.strerror or error}. What was committed is safe; "
            "free space or fix permissions and run the same command again"
        ) from error


@contextlib.contextmanager
def damage(label: str) -> Generator[None]:
    """Turn whatever zarr raises on damaged or hostile metadata into a `CorruptFeatureError`."""
    try:
        yield
    except R2TError as error:
        if isinstance(error, StoreError):
            raise
        raise CorruptFeatureError(f"{label} is damaged: {error}") from error
    except Exception as error:  # TypeError, KeyError, JSONDecodeError, NotImplementedError, …
        raise CorruptFeatureError(
            f"{label} is damaged or cannot be read ({error!r}); extract it again"
        ) from error
