"""A file beside a store, which several runs bring up to date at the same time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from r2t.store.errors import StoreError
from r2t.store.files import write_whole
from r2t.store.sources import connect, is_url
from r2t.store.work_folders import held

_ROUNDS = 100


class BesideFile(Protocol):
    """A file beside a store; one that is empty counts as none."""

    location: str

    def read(self) -> bytes:
        """Return its content, empty if there is none."""
        ...

    def change(self, change: Callable[[bytes], bytes]) -> None:
        """Replace the content by what `change` makes of it; nobody else's change is lost."""
        ...


def file_beside(store: str, suffix: str) -> BesideFile:
    """Return the file `<store><suffix>`, on a disk or in a bucket."""
    if is_url(store):
        return _InBucket(f"{store.rstrip('/')}{suffix}")
    root = Path(store)
    return _OnDisk(root.with_name(f"{root.name}{suffix}"))


class _OnDisk:
    def __init__(self, path: Path) -> None:
        self.location = str(path)
        self._path = path

    def read(self) -> bytes:
        with contextlib.suppress(FileNotFoundError):
            return self._path.read_bytes()
        return b""

    def change(self, change: Callable[[bytes], bytes]) -> None:
        with held(self._path.parent):
            before = self.read()
            after = change(before)
            if after and after != before:
                write_whole(self._path, after)
            elif not after:
                self._path.unlink(missing_ok=True)


class _InBucket:
    def __init__(self, location: str) -> None:
        self.location = location
        folder, _, self._key = location.rpartition("/")
        self._bucket = connect(folder)

    def read(self) -> bytes:
        return self._bucket.read(self._key) or b""

    def change(self, change: Callable[[bytes], bytes]) -> None:
        after: bytes | None = None
        for _ in range(_ROUNDS):
            found = self._bucket.read_object(self._key)
            before = b"" if found is None else found[0]
            if before == after:  # the answer was lost
                return
            after = change(before)
            if after == before:
                return
            if self._bucket.replace(self._key, after, None if found is None else found[1]):
                return
        raise StoreError(f"{self.location}: other runs keep changing it; run the command again")
