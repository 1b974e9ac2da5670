"""A store packed into one uncompressed zip, read where it lies, on this machine or behind a URL.

A member that is stored uncompressed is a range of the zip file, so parts of it are read as from any
other file. Compressed members are refused: they cannot be read in part, and may decompress to any
size. Nothing is ever unpacked.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from r2t.store.errors import CorruptFeatureError, ServerError, StoreError
from r2t.store.sources.remote import open_folder
from r2t.store.sources.sources import MAX_READ_BYTES, Source

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, …, length of the name, of the extra field

_TAIL_BYTES = 2**17
_MOST_NAME_LENGTH = 1000  # of a member; a store's are a third of that at most


@dataclass(frozen=True)
class ZipSeal:
    """What is known of a zip before it is opened, so that one request reads and proves its list.

    The list of members takes the bytes from `list_start` to the end, and `list_sha256` is their
    digest, in hex. What lies from `kept_start` on is read with it and kept. Members of a sealed
    zip begin right behind their name: their own headers have no extra field.
    """

    num_bytes: int
    list_start: int
    list_sha256: str
    kept_start: int


class RangedFile(Protocol):
    """One file that is read in ranges."""

    location: str

    def read(self, start: int, stop: int) -> bytes: ...

    def size(self) -> int: ...


class LocalFile:
    """A file on this machine."""

    def __init__(self, path: Path) -> None:
        self.location = str(path)
        self.path = path

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from start to stop, fewer where the file ends."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            stop = min(stop, os.fstat(descriptor).st_size)
            return os.pread(descriptor, max(0, stop - start), start)
        finally:
            os.close(descriptor)

    def size(self) -> int:
        """Return the size in bytes."""
        return self.path.stat().st_size


class RemoteFile:
    """A file of a source; by default the source is that one file."""

    def __init__(self, location: str, source: Source, key: str = "") -> None:
        self.location = location
        self._source = source
        self._key = key

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from start to stop, fewer where the file ends."""
        content = self._source.read(self._key, start, stop)
        if content is None:
            raise ServerError(f"{self.location} does not exist, or not any more")
        return content

    def size(self) -> int:
        """Return the size in bytes."""
        size = self._source.size(self._key)
        if size is None:
            raise StoreError(f"{self.location} does not exist")
        return size


class _KeptEnd:
    """A file whose end, from `start` on, was read and is kept."""

    def __init__(self, file: RangedFile, start: int, end: bytes) -> None:
        self.location = file.location
        self._file = file
        self._start = start
        self._end = end

    def read(self, start: int, stop: int) -> bytes:
        if start < self._start:
            return self._file.read(start, stop)
        return self._end[start - self._start : stop - self._start]

    def size(self) -> int:
        return self._start + len(self._end)


class ZippedFolder:
    """The members of a zip; a `Source`. The store is its top, or the one folder in it."""

    def __init__(self, location: str | Path | RangedFile, seal: ZipSeal | None = None) -> None:
        """Read the list of members; raise `StoreError` unless all are stored uncompressed.

        `location` is a path, a URL, or the file itself. Raises `CorruptFeatureError` if the zip is
        not the one that `seal` describes.
        """
        self._file: RangedFile
        if isinstance(location, str):
            self._file = RemoteFile(location, open_folder(location))
        else:
            self._file = LocalFile(location) if isinstance(location, Path) else location
        self.location = location = self._file.location
        self._path = self._file.path if isinstance(self._file, LocalFile) else None
        self._is_sealed = seal is not None
        self._members: dict[str, zipfile.ZipInfo] = {}
        self._starts: dict[str, int] = {}
        try:
            if seal is not None:
                self._file = _kept_end(self._file, seal)
            size = self._file.size()
            ahead = max(0, size - _TAIL_BYTES) if seal is None else seal.list_start
            with zipfile.ZipFile(_Seekable(self._file, size, ahead)) as packed:
                members = packed.infolist()
        except StoreError:
            raise
        except FileNotFoundError as error:
            raise StoreError(f"{location} does not exist") from error
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise StoreError(f"{location} is no zip that can be read: {error}") from error
        for member in members:
            if not member.is_dir():
                self._add(member, size)
        tops = {name.split("/")[0] for name in self._members}
        if seal is None and "zarr.json" not in tops and len(tops) == 1:
            start = len(tops.pop()) + 1
            self._members = {name[start:]: member for name, member in self._members.items()}
        self._folders = _folders(self._members)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """Return the bytes from start to stop, fewer where it ends; None if there is none."""
        member = self._members.get(key)
        if member is None:
            return None
        stop = member.file_size if stop is None else min(stop, member.file_size)
        if stop - start > MAX_READ_BYTES:
            raise StoreError(f"{self.location}: {key} is larger than {MAX_READ_BYTES} bytes")
        if start >= stop:
            return b""
        begin = self._start(key, member)
        return self._file.read(begin + start, begin + stop)

    def size(self, key: str) -> int | None:
        """Return the size of a member in bytes; None if there is none."""
        member = self._members.get(key)
        return None if member is None else member.file_size

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; those of folders end with a slash."""
        return sorted(self._folders.get(folder, ()))

    def local_file(self, key: str) -> tuple[Path, int] | None:
        """Return the zip and where in it the member begins, if the zip is on this machine."""
        member = self._members.get(key)
        if member is None or self._path is None:
            return None
        return self._path, self._start(key, member)

    def _add(self, member: zipfile.ZipInfo, size: int) -> None:
        name = member.filename
        if len(name) > _MOST_NAME_LENGTH:  # each of its folders takes memory
            raise StoreError(f"{self.location}: {name[:40]}… is a longer name than a store has")
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise StoreError(
                f"{self.location}: {name} is compressed or encrypted; a store is packed without "
                "compression (`zip -0`), so that it can be read in place"
            )
        inside = 0 <= member.header_offset <= size - member.file_size
        if member.file_size != member.compress_size or not inside or name in self._members:
            raise StoreError(f"{self.location}: {name} is listed twice or with a wrong size")
        self._members[name] = member

    def _start(self, key: str, member: zipfile.ZipInfo) -> int:
        """Return where a member's bytes begin, behind its own header."""
        if self._is_sealed:
            name_bytes = len(member.orig_filename.encode("utf-8", "surrogateescape"))
            return member.header_offset + _LOCAL_HEADER.size + name_bytes
        if key not in self._starts:
            at = member.header_offset
            header = self._file.read(at, at + _LOCAL_HEADER.size)
            if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
                raise StoreError(f"{self.location}: {key} is not where the zip's list says")
            _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
            self._starts[key] = at + _LOCAL_HEADER.size + name_bytes + extra_bytes
        return self._starts[key]


def _kept_end(file: RangedFile, seal: ZipSeal) -> _KeptEnd:
    """Read a sealed zip's end; raise `CorruptFeatureError` if it is another than was sealed."""
    end = file.read(seal.kept_start, seal.num_bytes + 1)
    members = end[seal.list_start - seal.kept_start :]
    if (
        len(end) != seal.num_bytes - seal.kept_start
        or hashlib.sha256(members).hexdigest() != seal.list_sha256
    ):
        raise CorruptFeatureError(
            f"{file.location} is another zip than the one of this set, or damaged: its size or its "
            "list of members is not what the manifest says; fetch it again"
        )
    return _KeptEnd(file, seal.kept_start, end)


def _folders(members: dict[str, zipfile.ZipInfo]) -> dict[str, set[str]]:
    folders: dict[str, set[str]] = {"": set()}
    for name in members:
        child, is_file = name, True
        while child:
            parent, _, last = child.rpartition("/")
            folders.setdefault(parent, set()).add(last if is_file else f"{last}/")
            child, is_file = parent, False
    return folders


class _Seekable(io.RawIOBase):
    """What `zipfile` needs of a file to read its list of members."""

    def __init__(self, file: RangedFile, size: int, tail_start: int) -> None:
        self._file = file
        self._size = size
        self._at = 0
        # The list and its end are mostly here: one request. Read ahead, too, because `zipfile`
        # takes an error for a sign of another kind of file.
        self._tail_start = tail_start
        self._tail = file.read(self._tail_start, size) if size else b""

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a position before the file")
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        stop = self._size if size < 0 else min(self._size, self._at + size)
        if stop - self._at > MAX_READ_BYTES:
            raise StoreError(f"{self._file.location}: its list of members is too long")
        if self._at >= self._tail_start:
            content = self._tail[self._at - self._tail_start : max(0, stop - self._tail_start)]
        else:
            content = self._file.read(self._at, stop)
        self._at += len(content)
        return content
