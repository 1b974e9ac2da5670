"""A bounded folder of bytes that were moved once: what a remote store costs is paid one time.

Entries are content under a hashed name, ended by a checksum. They appear by a rename and are whole
or not there; one that fails its checksum is dropped and read anew. Several processes may share the
folder: room is claimed, under a lock, before anything is written, so that entries and unfinished
files together never take more than the bound. The entries used longest ago make room for others.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import struct
import time
import uuid
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import google_crc32c

from r2t.store.errors import ConfigError, StoreError

# While an entry is written, its name also says how many bytes it will take.
_ENTRY = re.compile(r"[0-9a-f]{64}(\.[0-9a-f]{12}\.([0-9]+))?\Z")
_STALE_SECONDS = 3600.0
_ROOM_LEFT = 0.9  # of the bound, after making room: so that it is not made for every entry


@dataclass(frozen=True)
class ByteCache:
    """Bytes by key in `folder`, which is made if need be, at most `max_bytes` of them."""

    folder: Path
    max_bytes: int

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise ConfigError(f"a cache of {self.max_bytes} bytes: must be positive")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._claimed(0):
                pass
        except OSError as error:
            raise StoreError(
                f"cannot use {self.folder} as a cache: {error.strerror or error}"
            ) from error

    def get(self, key: str) -> bytes | None:
        """Return what was put under a key; None if it is not here, or not as it was put."""
        path = self.folder / _name(key)
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:  # not here, or another process made room just now
            return None
        if len(content) < 4 or _checksum(content[:-4]) != content[-4:]:
            path.unlink(missing_ok=True)
            return None
        return content[:-4]

    def put(self, key: str, content: bytes) -> None:
        """Keep bytes; a disk that takes no more keeps nothing, and that is no error."""
        num_bytes = len(content) + 4
        if num_bytes > self.max_bytes:
            return
        name = _name(key)
        unfinished = self.folder / f"{name}.{uuid.uuid4().hex[:12]}.{num_bytes}"
        with contextlib.suppress(OSError):
            with self._claimed(num_bytes):
                unfinished.touch()
            try:  # not flushed: an entry that a loss of power spoils fails its checksum
                unfinished.write_bytes(content + _checksum(content))
                os.rename(unfinished, self.folder / name)
            finally:
                unfinished.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _claimed(self, num_bytes: int) -> Generator[None]:
        """Add to the bytes in use, which a file records, making room first where they are too many.

        The record may only be too high (a claim of a process that was killed); counting anew when
        the bound is reached puts it right.
        """
        descriptor = os.open(self.folder / "bytes", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            recorded = os.pread(descriptor, 20, 0)
            used = int(recorded) if recorded.isdigit() else self._make_room(self.max_bytes)
            if used + num_bytes > self.max_bytes:
                used = self._make_room(int(self.max_bytes * _ROOM_LEFT) - num_bytes)
            if used + num_bytes > self.max_bytes:
                raise OSError(errno.ENOSPC, "other processes are filling the cache")
            os.pwrite(descriptor, f"{used + num_bytes:020d}".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def _make_room(self, target: int) -> int:
        """Remove what was used longest ago until at most `target` bytes are left; return those."""
        entries: list[tuple[float, int, Path]] = []
        used = 0
        with os.scandir(self.folder) as found:
            listed = [(entry, match) for entry in found if (match := _ENTRY.match(entry.name))]
        for entry, match in listed:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                # Since it was listed, another has removed it, or made an entry of what it wrote.
                used += int(match[2] or 0)
                continue
            if match[1] and time.time() - status.st_mtime < _STALE_SECONDS:
                used += int(match[2])
            else:
                used += status.st_size
                entries.append((status.st_mtime, status.st_size, Path(entry.path)))
        for _, size, path in sorted(entries):
            if used <= max(0, target):
                break
            path.unlink(missing_ok=True)
            used -= size
        return used


def _name(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _checksum(content: bytes) -> bytes:
    value = cast("int", google_crc32c.value(content))  # pyright: ignore[reportUnknownMemberType]
    return struct.pack("<I", value)
