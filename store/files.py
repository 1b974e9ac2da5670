"""Files and folders that appear whole or not at all, and what to say where a disk refuses one.

Each is written elsewhere on the same disk, flushed and renamed into its place. So a full disk, a
crash or a loss of power leaves what was there before, or nothing, and never half. Contents are
flushed first because a disk may otherwise keep the rename and lose them; the rename itself is not
flushed, because losing it leaves the old state, which is whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

from r2t.store.errors import R2TError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_ADVICE = {
    errno.ENOSPC: "no space left on {place}: what was finished is safe; free space and run the "
    "same command again",
    errno.EDQUOT: "no quota left for {place}: what was finished is safe; free space and run the "
    "same command again",
    errno.EFBIG: "{place} grows larger than this disk, or a limit of this shell (`ulimit -f`), "
    "allows; choose another place or raise the limit",
    errno.EROFS: "{place} is on a disk that can only be read; choose another place",
    errno.EACCES: "no permission to use {place}; choose another place or change who may use it",
    errno.EPERM: "no permission to use {place}; choose another place or change who may use it",
    errno.ENOENT: "{place} does not exist; check the path, or make its folder first",
    errno.ENOTDIR: "{place}: a file stands where a folder is needed; choose another path",
    errno.EISDIR: "{place} is a folder; give the path of a file",
    errno.EEXIST: "{place} is there already; choose another path or remove it",
    errno.ENAMETOOLONG: "{place}: the name is too long for this disk; give a shorter one",
    errno.ELOOP: "{place}: links lead round in a circle; give the path of the file itself",
    errno.EMFILE: "too many files are open to open {place}; raise the limit (`ulimit -n`)",
    errno.EIO: "{place} cannot be read or written: the disk fails; look at it, then run the same "
    "command again",
}


def explain(error: OSError) -> str:
    """Say in one line what a disk refused, where, and what to do."""
    place = str(error.filename or "the disk")
    if error.errno in _ADVICE:
        return _ADVICE[error.errno].format(place=place)
    return f"{place}: {error.strerror or error}"


@contextlib.contextmanager
def appearing(path: Path, *, beside: Path | None = None) -> Generator[Path]:
    """Yield a path to write to, which is renamed to `path` on a clean exit and else removed.

    It has the suffix of `path`, by which some writers choose a format, and lies in the folder
    `beside`, on the same disk; by default in that of `path`. A file that is replaced hands on its
    permissions, links are followed, and what is no file, such as /dev/stdout, is written to as it
    is. Errors of the disk name `path`.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if target.exists() and not target.is_file():
        yield target
        return
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    unfinished = (beside or target.parent) / f".{uuid.uuid4().hex}.tmp{target.suffix}"
    try:
        yield unfinished
        if target.exists():
            unfinished.chmod(target.stat().st_mode)
        _flush(unfinished)
        os.replace(unfinished, target)
    except OSError as error:
        places = ("None", str(unfinished))
        if not isinstance(error, R2TError) and str(error.filename) in places:
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):  # it was renamed, or could not be made
            unfinished.unlink()


def write_whole(path: Path, content: bytes | str, *, beside: Path | None = None) -> None:
    """Write a file, texts as UTF-8, so that it appears whole or not at all."""
    data = content.encode() if isinstance(content, str) else content
    with appearing(path, beside=beside) as unfinished:
        unfinished.write_bytes(data)


def commit_folder(folder: Path, target: Path) -> None:
    """Flush a finished folder and rename it to `target`, on the same disk.

    Raises `OSError` if something is there already, or the disk refuses. A network disk may report
    an error though it renamed: its second try found nothing to move.
    """
    for parent, _, names in os.walk(folder, topdown=False):
        for path in [*(os.path.join(parent, name) for name in names), parent]:
            _flush(path)
    try:
        os.rename(folder, target)
    except OSError:
        if folder.exists() or not target.is_dir():
            raise


def require_writable(folder: Path) -> None:
    """Raise `OSError` if no file can be made in a folder, before work is spent on one.

    Of a folder that is still to be made, the nearest one above it is tried.
    """
    place = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(place)) from error


def require_plain(path: str | Path) -> None:
    """Raise `OSError` unless a plain file is there: reading a pipe or a device may never end."""
    with _opened(path):
        pass


def read_plain(path: str | Path, most_bytes: int) -> bytes:
    """Read a plain file of at most so many bytes; raise `OSError` for anything else."""
    with _opened(path) as file:
        num_bytes = os.fstat(file.fileno()).st_size
        if num_bytes > most_bytes:
            reason = f"has {num_bytes} bytes; the limit is {most_bytes}"
            raise OSError(errno.EFBIG, reason, str(path))
        return file.read()


@contextlib.contextmanager
def _opened(path: str | Path) -> Generator[BinaryIO]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe without a writer, too
    with open(descriptor, "rb", closefd=True) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            reason = "is no plain file; write what a pipe gives into one first"
            raise OSError(errno.EINVAL, reason, str(path))
        yield file


def _flush(path: str | Path) -> None:
    """Flush one file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
