"""Fetching one file piece by piece, whatever its size: a video, or a list of videos.

An interrupted transfer continues where it stopped, if the server can do that and the file is still
the same; else it begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from r2t.store.errors import ServerError, StoreError
from r2t.store.sources.connection import connect, is_bucket
from r2t.store.sources.http import HTTP_SILENCE, HttpClient
from r2t.store.sources.remote import file_system_of
from r2t.store.sources.retries import TransientError, ask_with_retries

_PIECE_BYTES = 2**23


@dataclass(frozen=True)
class FileFacts:
    """What a server says of a file: its size and its type, "" and None where it says nothing."""

    num_bytes: int | None
    content_type: str


@dataclass(frozen=True)
class FilePart:
    """A file from the byte `start` on; `version` differs once the file has changed."""

    facts: FileFacts
    start: int
    version: str | None
    pieces: Iterator[bytes]


class _RemoteFile(Protocol):
    def open(self, start: int, version: str | None) -> AbstractContextManager[FilePart]:
        """Yield the file from a byte on; from its beginning where that cannot be, or it changed."""
        ...


class Receiver(Protocol):
    """Takes a file that is moved; what it raises ends the transfer."""

    def begin(self, facts: FileFacts, start: int) -> None:
        """Prepare for bytes from `start` on, up to which all have been kept; 0 begins anew."""
        ...

    def keep(self, piece: bytes) -> None:
        """Keep the next bytes."""
        ...


class _ReceiverError(StoreError):
    """What a receiver raised, wrapped so that no server is asked again for it."""

    def __init__(self, raised: Exception) -> None:
        super().__init__(str(raised))
        self.raised = raised


def move_file(url: str, receiver: Receiver, *, asked: str) -> bool:
    """Hand a file's bytes to a receiver; return False if there is none.

    `asked` is the URL that a person gave, which is another one if `url` was found in a list there:
    only its server gets credentials, and if it is public, no private address is asked.

    Raises:
        ServerError: if the server fails; asking again did not help.
    """
    transfer = _Transfer(url, _opened(url, asked), receiver)
    try:
        while not (done := ask_with_retries(url, transfer.go_on, HTTP_SILENCE)):
            if done is None:
                return False
    except _ReceiverError as error:
        raise error.raised from error.raised.__cause__
    return True


class _Transfer:
    """How far a file has come."""

    def __init__(self, url: str, file: _RemoteFile, receiver: Receiver) -> None:
        self._url = url
        self._file = file
        self._receiver = receiver
        self._num_kept = 0
        self._furthest = 0  # bytes that had come by the last interruption
        self._version: str | None = None

    def go_on(self) -> bool:
        """Move what is left; return False if interrupted after more progress, or raise without."""
        try:
            with self._file.open(self._num_kept, self._version) as part:
                self._num_kept = part.start
                self._version = part.version
                self._receive(lambda: self._receiver.begin(part.facts, part.start))
                for piece in part.pieces:
                    self._receive(lambda piece=piece: self._receiver.keep(piece))
                    self._num_kept += len(piece)
                total = part.facts.num_bytes
                if total is not None and self._num_kept != total:
                    raise TransientError(f"{self._num_kept:,} of {total:,} bytes arrived")
        except StoreError:
            raise
        except Exception:
            # Without a version, nobody knows whether what follows is of the same file.
            if self._version is None:
                self._num_kept = 0
            if self._num_kept - self._furthest < _PIECE_BYTES:
                raise
            self._furthest = self._num_kept
            return False
        return True

    def _receive(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            raise _ReceiverError(error) from error


class _HttpFile:
    def __init__(self, url: str, asked: str) -> None:
        self._url = url
        self._client = HttpClient(file_system_of(asked)[0], asked)

    @contextmanager
    def open(self, start: int, version: str | None) -> Generator[FilePart]:
        with self._client.open(self._url, start, version) as answer:
            facts = FileFacts(answer.num_bytes, answer.content_type)
            yield FilePart(facts, answer.start, answer.version, answer.pieces(_PIECE_BYTES))


class _BucketFile:
    def __init__(self, url: str) -> None:
        self._url = url
        self._bucket = connect(url)

    @contextmanager
    def open(self, start: int, version: str | None) -> Generator[FilePart]:
        found = self._bucket.look("")
        if found is None:
            raise FileNotFoundError(self._url)
        now = found.etag or found.generation or str(found.changed)
        if version not in (None, now):
            start = 0
        pieces = self._pieces(start, found.num_bytes, now)
        yield FilePart(FileFacts(found.num_bytes, ""), start, now, pieces)

    def _pieces(self, start: int, total: int, version: str) -> Iterator[bytes]:
        for first in range(start, total, _PIECE_BYTES):
            piece = self._bucket.read("", first, min(first + _PIECE_BYTES, total))
            if not piece:
                return
            yield piece
        found = self._bucket.look("")
        if found is None or version != (found.etag or found.generation or str(found.changed)):
            raise ServerError(f"{self._url} was replaced while it was read; run the command again")


def _opened(url: str, asked: str) -> _RemoteFile:
    return _BucketFile(url) if is_bucket(url) else _HttpFile(url, asked)
