"""How this package makes Zarr nodes: typed where zarr is not, with errors that say what to do."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import zarr
from zarr.abc.store import ByteRequest, RangeByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from r2t.store.errors import CorruptFeatureError, R2TError, StoreError
from r2t.store.format.layout import MAX_WHOLE_BYTES

_open_group = cast("Callable[..., zarr.Group]", zarr.open_group)  # pyright: ignore[reportUnknownMemberType]
_Mode = Literal["r", "a", "w-"]

ON_DISK = (8, 16)
"""How many reads of a disk are made side by side, and how many are worth a thread."""

ZARR_ERRORS = (
    OSError,
    ValueError,  # its own errors, of json, of Unicode, of numpy
    # What it trips over, since it takes metadata apart before it looks what it is:
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,  # RecursionError, NotImplementedError
    TypeError,
)
"""What zarr raises on damaged or hostile content."""


class FolderStore(LocalStore):
    """A folder of this machine, for reading what others wrote: plain files in plain folders.

    A link could lead anywhere, and reading a pipe never ends.
    """

    at_once, reads_a_thread = ON_DISK

    def read_range(self, key: str, start: int, stop: int) -> bytes | None:
        """Return some bytes of a file, None if there is none; refuse anything but a file."""
        path = self.root / key
        require_inside(path)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise CorruptFeatureError(f"{path} is no file")
            end = min(stop, status.st_size)  # so much memory is taken at once
            file.seek(min(start, end))
            return file.read(max(end - start, 0))

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return the bytes of a file, None if there is none; refuse anything but a file."""
        path = self.root / key
        require_inside(path)
        if path.exists():
            if not path.is_file():
                raise CorruptFeatureError(f"{path} is no file")
            if isinstance(byte_range, RangeByteRequest):  # so much memory is taken at once
                end = min(byte_range.end, path.stat().st_size)
                byte_range = RangeByteRequest(min(byte_range.start, end), end)
            elif path.name == "zarr.json" and path.stat().st_size > MAX_WHOLE_BYTES:
                raise CorruptFeatureError(f"{path} is larger than {MAX_WHOLE_BYTES} bytes")
        return await super().get(key, prototype, byte_range)

    async def exists(self, key: str) -> bool:
        """Whether anything lies there; `get` says if it is a file."""
        return os.path.lexists(self.root / key)


def require_inside(path: Path) -> None:
    """Raise `CorruptFeatureError` if a path below a resolved folder leads through a link."""
    if os.path.realpath(path) != str(path):
        raise CorruptFeatureError(f"{path} leads through a symbolic link, which is not followed")


def open_group(
    location: str | Store, mode: _Mode, attributes: Mapping[str, Any] | None = None
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
    """Turn what damaged or hostile content makes others raise into a `CorruptFeatureError`.

    These are `OSError` of the disk, and `ValueError` of json, Unicode, numpy and our own checks. A
    mistake in our code is another, such as a `TypeError`, and passes as it is. zarr raises those
    over content, too, so it is called within `zarr_reads`.
    """
    try:
        yield
    except StoreError:
        raise
    except R2TError as error:
        raise CorruptFeatureError(f"{label} is damaged: {error}") from error
    except (OSError, ValueError) as error:
        raise CorruptFeatureError(_cannot_be_read(label, error)) from error


@contextlib.contextmanager
def zarr_reads(label: str) -> Generator[None]:
    """Turn what zarr raises on content that it cannot take apart into a `CorruptFeatureError`.

    Nothing but zarr may run inside: what it trips over are the same errors as our mistakes.
    """
    try:
        yield
    except StoreError:
        raise
    except ZARR_ERRORS as error:
        raise CorruptFeatureError(_cannot_be_read(label, error)) from error


def find_node(
    group: zarr.Group, path: str, label: str | None = None
) -> zarr.Group | zarr.Array[Any] | None:
    """Return what lies at a path in a group, None if there is nothing."""
    with zarr_reads(label or path), contextlib.suppress(KeyError):
        return group[path]
    return None


def require_group(group: zarr.Group, path: str) -> zarr.Group:
    """Return the group at a path in another; raise `CorruptFeatureError` if there is none."""
    node = find_node(group, path)
    if not isinstance(node, zarr.Group):
        what = "missing" if node is None else "an array, expected a group"
        raise CorruptFeatureError(f"{path} is {what}")
    return node


def require_array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Return the array of a name in a group; raise `CorruptFeatureError` if there is none."""
    node = find_node(group, name)
    if not isinstance(node, zarr.Array):
        what = "missing" if node is None else "a group, expected an array"
        raise CorruptFeatureError(f"{group.path}/{name} is {what}")
    return node


def attributes_of(group: zarr.Group) -> dict[str, Any]:
    """Return the attributes of a group."""
    with zarr_reads(f"{group.path or group.store}/zarr.json"):
        return group.attrs.asdict()


def _cannot_be_read(label: str, error: Exception) -> str:
    return f"{label} is damaged or cannot be read ({error!r}); `r2t store verify` says more"
