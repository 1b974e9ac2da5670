"""How a store is changed, wherever it is kept: prepared in a folder here, then published."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, Self


class Publisher(Protocol):
    """Changes one store; each change shows whole or not at all.

    Entering it makes the folder `work`, in which new content is made ready, and which is removed at
    the end. Places and keys are paths within the store. What a disk or a server refuses is an
    `OSError`, which `errors` turns into a `StoreError` that says what to do.
    """

    work: Path

    @property
    def location(self) -> str:
        """The store, as errors name it."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def errors(self) -> AbstractContextManager[None]:
        """Turn what is refused inside into a `StoreError`."""
        ...

    def maintenance(self) -> AbstractContextManager[None]:
        """Hold the store for a command that replaces parts.

        Raises `StoreError` if another one does.
        """
        ...

    def require_room(self, num_bytes: int) -> None:
        """Raise `StoreError` if a node of so many bytes cannot be made ready."""
        ...

    def exists(self) -> bool:
        """Whether anything is kept there."""
        ...

    def create(self, folder: Path) -> None:
        """Let a prepared folder be the store, unless somebody was quicker."""
        ...

    def add(self, folder: Path, place: str) -> bool:
        """Put a prepared node at a place; return False if a committed one is there already."""
        ...

    def drop(self, place: str) -> bool:
        """Remove a node; return False if there was none."""
        ...

    def set_aside(self, place: str, time: str) -> None:
        """Move what lies at a place out of the store, to below `aside(time)`."""
        ...

    def copy_aside(self, key: str, time: str) -> None:
        """Copy a file that is there out of the store, to below `aside(time)`."""
        ...

    def aside(self, time: str) -> str:
        """Where things are kept that were set aside at a time."""
        ...

    def unfinished(self) -> dict[str, bool]:
        """Return where something is not committed, and whether somebody is still at work on it."""
        ...

    def clear(self) -> list[str]:
        """Remove what killed processes left unfinished; return what it was."""
        ...

    def holds(self, place: str) -> bool:
        """Whether a file or a folder is there."""
        ...

    def read(self, key: str) -> bytes | None:
        """Return a file, None if there is none."""
        ...

    def changed_at(self, key: str) -> float:
        """Return when a file that is there was last written, in seconds since 1970."""
        ...

    def free_bytes(self) -> int | None:
        """Return how much the store may grow; None if that is not known."""
        ...

    def write(self, key: str, content: bytes) -> None:
        """Put a file at a key, in the place of one that is there."""
        ...

    def change(self, key: str, change: Callable[[bytes], bytes]) -> bool:
        """Replace a file by what `change` makes of it; return whether the content changed.

        `change` may be called several times, so that nobody else's change is lost.
        """
        ...

    def committed(self, place: str) -> list[str]:
        """Return the names of the nodes in a group that have metadata, sorted."""
        ...
