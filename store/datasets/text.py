"""The text of files that people made: bounded, unpacked if it is gzipped, and decoded."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

from r2t.store.errors import AnnotationError
from r2t.store.files import require_plain

MAX_FILE_BYTES = 1 << 30
"""Most bytes of a file, and of what a gzipped one holds."""

_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


def read_text(path: Path) -> str:
    """Read a text file: UTF-8, or UTF-16 with a byte order mark; unpacked if it is gzipped."""
    return decode_text(path, read_content(path))


def read_content(path: Path, num_bytes: int | None = None) -> bytes:
    """Read a regular file, or only its first bytes; unpacked if it is gzipped.

    Raises `AnnotationError` if it cannot be read, or holds more than `MAX_FILE_BYTES`.
    """
    most = MAX_FILE_BYTES + 1 if num_bytes is None else num_bytes
    try:
        require_plain(path)
        with path.open("rb") as file:
            content = file.read(most)
            if content.startswith(_GZIP_MAGIC):
                file.seek(0)
                content = _unpack(path, file, most)
    except OSError as error:
        raise AnnotationError(f"cannot read {path}: {error.strerror or error}") from error
    if len(content) > MAX_FILE_BYTES:
        raise AnnotationError(f"{path} holds more than {MAX_FILE_BYTES} bytes, which is the limit")
    return content


def decode_text(path: Path, content: bytes) -> str:
    """Decode a file's bytes; raise `AnnotationError` if they are no such text."""
    encoding = marked_encoding(content)
    try:
        return content.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        raise AnnotationError(
            f"{path} is not {name} text (byte {error.start}): save it as UTF-8"
        ) from error


def marked_encoding(content: bytes) -> str | None:
    """Return the encoding that a byte order mark names."""
    return next(
        (name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), None
    )


def _unpack(path: Path, file: io.BufferedReader, most: int) -> bytes:
    try:
        with gzip.open(file) as packed:
            return packed.read(most)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise AnnotationError(f"cannot unpack {path}: {error}") from error
