"""Folders of unfinished things beside a store, and the locks that tell who is at work.

A process that writes holds an advisory lock on its own folder for as long as it lives, however it
ends. So `repair` and the next process can tell what a killed one left from what is being written
now. Commands that replace parts hold a lock on the store's folder: there is one of them at a time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import socket
import stat
import time
import uuid
from collections.abc import Generator
from pathlib import Path

from r2t.store.errors import StoreError

_HELD = (errno.EWOULDBLOCK, errno.EACCES)
SILENT_SECONDS = 24 * 3600.0  # where locks do not tell, one without a write for this long is dead


class WorkFolder:
    """A folder for one process, locked until it is removed: `<store>.partial/<random>-<machine>`.

    Entering it clears what dead processes left beside the store.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.path = partial_folder(root) / f"{uuid.uuid4().hex[:12]}-{_machine()}"
        self._lock = -1

    def __enter__(self) -> WorkFolder:
        with contextlib.suppress(OSError):  # what cannot be cleared stays, as it did so far
            remove_dead_work(self._root, unasked=True)
        while not self._make():
            pass
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the folder, and its parent unless that holds another one."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()

    def _make(self) -> bool:
        """Make and lock the folder; another process may remove it in between."""
        try:
            self.path.mkdir(parents=True)
            self._lock = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            if not self.path.parent.parent.is_dir():
                raise
            return False
        with contextlib.suppress(OSError):  # a disk without locks
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        if self.path.is_dir():
            return True
        os.close(self._lock)
        return False


def make_own_folder(folder: Path, advice: str) -> None:
    """Make a folder where everybody may make some; no link is followed.

    Raises `StoreError` with an advice if another user made it, who could replace what is in it.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise StoreError(f"{folder} is not this user's own folder; {advice}")


def partial_folder(root: Path) -> Path:
    """Return where unfinished things are kept: beside the store, so that a rename reaches it."""
    return root.with_name(f"{root.name}.partial")


def work_folders(root: Path) -> dict[Path, bool]:
    """Return the folders of unfinished things beside a store: is someone at work in each?"""
    return {folder: _is_alive(folder) for folder in _listed(root)}


def remove_dead_work(root: Path, *, unasked: bool = False) -> list[Path]:
    """Remove what killed processes left unfinished and return their folders.

    Some network disks keep locks to one machine. So what another machine left is removed `unasked`
    only when nothing was written to it for a day.
    """
    removed: list[Path] = []
    for folder in _listed(root):
        if unasked and not (folder.name.endswith(f"-{_machine()}") or _is_silent(folder)):
            continue
        with _claimed(folder) as dead:
            if dead and folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder)
            elif dead:
                folder.unlink(missing_ok=True)
        if dead:
            removed.append(folder)
    with contextlib.suppress(OSError):
        partial_folder(root).rmdir()
    return removed


@contextlib.contextmanager
def maintenance(root: Path) -> Generator[None]:
    """Hold the store for a command that replaces parts; raise `StoreError` if another one does."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive(root))
        except BlockingIOError as error:
            raise StoreError(
                f"another command is repairing or changing {root}; wait until it is done"
            ) from error
        yield


@contextlib.contextmanager
def exclusive(folder: Path) -> Generator[bool]:
    """Hold an advisory lock on a folder; yield False where its disk has none.

    The lock ends with this process, however that ends. Raises `BlockingIOError` if another process
    holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        locked = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                raise BlockingIOError(error.errno, "another process holds it", folder) from error
            locked = False
        yield locked
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def held(folder: Path) -> Generator[None]:
    """Hold an advisory lock on a folder for a moment, once those before have let go of it.

    A disk without locks has none. The lock ends with this process, however that ends.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _claimed(folder: Path) -> Generator[bool]:
    """Yield whether nobody is at work in a folder, and keep others from using it meanwhile."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield True  # gone, or no folder that `WorkFolder` could have made
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            dead = True
        except OSError as error:
            dead = error.errno not in _HELD and _is_silent(folder)
        yield dead
    finally:
        os.close(descriptor)


def _is_alive(folder: Path) -> bool:
    with _claimed(folder) as dead:
        return not dead


def _listed(root: Path) -> list[Path]:
    try:
        return sorted(partial_folder(root).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _machine() -> str:
    """Return a short name of this machine that any disk takes."""
    return hashlib.sha256(socket.gethostname().encode("utf-8", "replace")).hexdigest()[:8]


def _is_silent(folder: Path) -> bool:
    times = [folder.lstat().st_mtime]
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                times.append(os.lstat(os.path.join(parent, name)).st_mtime)
    return time.time() - max(times) > SILENT_SECONDS
