"""Changing a store in a folder of this machine: each change is a rename."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from r2t.store.files import commit_folder, write_whole
from r2t.store.format import storage_errors
from r2t.store.work_folders import (
    WorkFolder,
    held,
    maintenance,
    remove_dead_work,
    work_folders,
)


class LocalPublisher:
    """A `Publisher` for a folder; `work` lies on its disk, so that a rename reaches the store."""

    def __init__(self, root: Path, work: Path | None = None) -> None:
        """Change the store in `root`; with `work`, a folder that exists, it need not be entered."""
        self._root = root
        self._folder = WorkFolder(root)
        self.work = work or self._folder.path

    @property
    def location(self) -> str:
        """The store, as errors name it."""
        return str(self._root)

    def __enter__(self) -> Self:
        with self.errors():
            self._root.parent.mkdir(parents=True, exist_ok=True)
            self._folder.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.__exit__()

    def errors(self) -> AbstractContextManager[None]:
        """Turn what the disk refuses into a `StoreError`."""
        return storage_errors(self._root)

    def maintenance(self) -> AbstractContextManager[None]:
        """Hold a lock on the store's folder."""
        return maintenance(self._root)

    def require_room(self, num_bytes: int) -> None:
        """Pass: what does not fit the store's disk is refused while it is written."""
        del num_bytes

    def exists(self) -> bool:
        """Whether there is anything but an empty folder."""
        root = self._root
        return root.exists() and not (root.is_dir() and not any(root.iterdir()))

    def create(self, folder: Path) -> None:
        """Rename a prepared folder to the store's path, unless another process was quicker."""
        try:
            commit_folder(folder, self._root)
        except OSError:
            if not (self._root / "zarr.json").is_file():
                raise

    def add(self, folder: Path, place: str) -> bool:
        """Rename a prepared node into place; return False if a folder is there already."""
        target = self._root / place
        try:
            commit_folder(folder, target)
        except OSError:
            if not target.is_dir():
                raise
            return False
        return True

    def drop(self, place: str) -> bool:
        """Rename a node out of the store and remove it."""
        doomed = self.work / f"dropped-{uuid.uuid4().hex[:12]}"
        try:
            os.rename(self._root / place, doomed)
        except FileNotFoundError:
            return False
        if doomed.is_dir() and not doomed.is_symlink():
            shutil.rmtree(doomed)
        else:
            doomed.unlink()
        return True

    def set_aside(self, place: str, time: str) -> None:
        """Rename what lies at a place to the folder of damaged things beside the store."""
        target = Path(self.aside(time), place)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(self._root / place, target)

    def copy_aside(self, key: str, time: str) -> None:
        """Copy a file to the folder of damaged things beside the store."""
        target = Path(self.aside(time), key)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, (self._root / key).read_bytes())

    def aside(self, time: str) -> str:
        """Return a folder on the same disk."""
        return str(self._root.with_name(f"{self._root.name}.damaged") / time)

    def unfinished(self) -> dict[str, bool]:
        """Return the work folders beside the store."""
        return {str(folder): alive for folder, alive in work_folders(self._root).items()}

    def clear(self) -> list[str]:
        """Remove the work folders of killed processes."""
        return [str(folder) for folder in remove_dead_work(self._root)]

    def holds(self, place: str) -> bool:
        """Whether anything is there, even a broken link."""
        return os.path.lexists(self._root / place)

    def read(self, key: str) -> bytes | None:
        """Return a file, None if there is none."""
        with contextlib.suppress(FileNotFoundError):
            return (self._root / key).read_bytes()
        return None

    def changed_at(self, key: str) -> float:
        """Return when a file was last written."""
        return (self._root / key).stat().st_mtime

    def free_bytes(self) -> int | None:
        """Return what is free on the disk."""
        places = (self._root, *self._root.parents)
        return shutil.disk_usage(next(place for place in places if place.exists())).free

    def write(self, key: str, content: bytes) -> None:
        """Rename a new file into place; its folder is made if need be."""
        file = self._root / key
        file.parent.mkdir(exist_ok=True)
        write_whole(file, content, beside=self.work)

    def change(self, key: str, change: Callable[[bytes], bytes]) -> bool:
        """Replace a file by a rename, while others who change one wait."""
        file = self._root / key
        versioned = self._root / "parts"  # version 1 has none
        with held(versioned if versioned.is_dir() else self._root / "videos"):
            before = file.read_bytes()
            after = change(before)
            if after != before:
                write_whole(file, after, beside=self.work)
        return after != before

    def committed(self, place: str) -> list[str]:
        """List a group."""
        folder = self._root / place
        names = os.listdir(folder)
        return sorted(name for name in names if (folder / name / "zarr.json").is_file())
