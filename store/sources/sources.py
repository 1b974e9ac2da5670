"""Where a store's bytes are when it is no plain folder: named pieces that are read in ranges."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from r2t.store.errors import StoreError
from r2t.store.format import MAX_WHOLE_BYTES

MAX_READ_BYTES = 2**28
"""Most bytes of one read: a foreign store or server may offer any number of them."""


class Source(Protocol):
    """The files of a store, read-only; keys are paths within it, such as `index/zarr.json`."""

    location: str

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """Return the bytes from start to stop, fewer where the file ends; None if there is none."""
        ...

    def size(self, key: str) -> int | None:
        """Return the size of a file in bytes; None if there is none."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; those of folders end with a slash.

        Raises `NotListedError` where nothing is listed, though files are read.
        """
        ...

    def local_file(self, key: str) -> tuple[Path, int] | None:
        """Return the file on this machine that holds the bytes, and where in it they begin."""
        ...


@runtime_checkable
class KeyLister(Protocol):
    """A source that lists all files below a folder in fewer requests than one for each folder."""

    def keys(self, folder: str) -> list[str]:
        """Return the keys of all files below a folder, in order; "" is the whole store."""
        ...


def bounded_range(name: str, start: int, stop: int | None) -> tuple[int, int]:
    """Return which bytes to ask for; raise `StoreError` if they are more than is read at once."""
    end = start + MAX_WHOLE_BYTES if stop is None else stop
    if end - start > MAX_READ_BYTES:
        raise StoreError(f"{name}: {end - start} bytes asked for at once")
    return start, end


def require_small(name: str, content: bytes | None) -> None:
    """Raise `StoreError` if a file that was read whole is larger than metadata can be."""
    if content is not None and len(content) >= MAX_WHOLE_BYTES:
        raise StoreError(f"{name} is larger than {MAX_WHOLE_BYTES} bytes")


def keys_below(source: Source, folder: str) -> list[str]:
    """Return the keys of all files below a folder (the whole store for "")."""
    if isinstance(source, KeyLister):
        return source.keys(folder)
    found: list[str] = []
    waiting = [folder]
    while waiting:
        parent = waiting.pop()
        for name in source.names(parent):
            key = f"{parent}/{name}".lstrip("/")
            if name.endswith("/"):
                waiting.append(key.rstrip("/"))
            else:
                found.append(key)
    return sorted(found)
