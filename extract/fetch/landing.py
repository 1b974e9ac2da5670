"""One video on its way to this machine: written as it comes, within its bounds."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from r2t.extract.fetch.config import FetchConfig
from r2t.extract.fetch.room import Room, RoomClosedError
from r2t.extract.fetch.shared_disk import SharedDisk
from r2t.store.errors import StoreError, VideoError
from r2t.store.files import explain
from r2t.store.sources import FileFacts

_PAGES = ("text/html", "application/xhtml+xml")
_PAGE_BEGINNINGS = (b"<!doctype html", b"<html")
_PAGE = "the server sent a page, not a video: does it ask for a login, or for consent?"


class Landing:
    """Receives a video into a file, which is there, and takes room, until the `with` block ends.

    A video whose size the server does not say claims the most that a video may have, and at the end
    gives back what it did not need. Raises a `VideoError` if the video is at fault, and a
    `StoreError` if this machine's disk is.
    """

    def __init__(self, path: Path, room: Room, disk: SharedDisk, config: FetchConfig) -> None:
        self._path = path
        self._room = room
        self._disk = disk
        self._config = config
        self._claimed = 0
        self._num_bytes = 0
        self._seconds_left = config.max_seconds
        self._looked_at = monotonic()
        with self._disk_errors():
            self._file = path.open("wb")

    def __enter__(self) -> Landing:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file, and give its room back."""
        self._file.close()
        self._path.unlink(missing_ok=True)
        self._give_back()

    def begin(self, facts: FileFacts, start: int) -> None:
        """Make room for a video, and go back to where its bytes now come from."""
        if facts.content_type in _PAGES:
            raise VideoError(_PAGE)
        self._require_size(facts.num_bytes or 0)
        wanted, is_bound = facts.num_bytes, facts.num_bytes is None
        if wanted is None:
            wanted = min(self._config.max_video_bytes, self._room.max_bytes)
        with self._disk_errors():
            self._file.seek(start)
            self._file.truncate()
            if wanted != self._claimed:
                self._give_back()
                self._room.claim(wanted)
                self._claimed = wanted
            reserved = self._disk.reserve(
                self._path, wanted, lambda: self._room.closed, is_bound=is_bound
            )
            self._room.give_back(wanted - reserved)
            self._claimed = reserved
        self._num_bytes = start
        self._looked_at = monotonic()  # waiting for room does not count

    def keep(self, piece: bytes) -> None:
        """Write the next bytes."""
        if self._room.closed:
            raise RoomClosedError
        now = monotonic()
        self._seconds_left -= now - self._looked_at
        self._looked_at = now
        if self._seconds_left < 0:
            raise VideoError(
                f"after {self._config.max_seconds:g} s {self._num_bytes:,} bytes of it had come: "
                "raise the time that fetching may take (--fetch-timeout), or fetch it yourself"
            )
        if self._num_bytes == 0 and piece.lstrip()[:14].lower().startswith(_PAGE_BEGINNINGS):
            raise VideoError(_PAGE)
        self._num_bytes += len(piece)
        self._require_size(self._num_bytes)
        if self._num_bytes > self._claimed:
            raise VideoError(
                f"more than {self._claimed:,} bytes of it come, which is all that the server said "
                "or that there is room for (--scratch-size, --scratch)"
            )
        with self._disk_errors():
            self._file.write(piece)

    def finish(self) -> None:
        """Close the file and keep only as much room as it takes."""
        with self._disk_errors():
            self._file.truncate(self._num_bytes)
            self._file.close()
        self._room.give_back(self._claimed - self._num_bytes)
        self._claimed = self._num_bytes

    def _give_back(self) -> None:
        self._room.give_back(self._claimed)
        self._claimed = 0

    def _require_size(self, num_bytes: int) -> None:
        if num_bytes > self._config.max_video_bytes:
            raise VideoError(
                f"it has over {self._config.max_video_bytes:,} bytes, the limit: if that is right, "
                "raise it (--max-video-size)"
            )

    @contextmanager
    def _disk_errors(self) -> Generator[None]:
        try:
            yield
        except VideoError:
            raise
        except OSError as error:
            raise StoreError(
                f"cannot keep fetched videos: {explain(error)} (--scratch is where they go)"
            ) from error
