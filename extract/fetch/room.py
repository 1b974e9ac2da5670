"""How many bytes of fetched videos may lie on this machine at a time, and who has them."""

from __future__ import annotations

import threading

from r2t.store.errors import VideoError


class RoomClosedError(Exception):
    """Nobody gets room any more: the run ends."""


class Room:
    """Bytes that are claimed and given back; safe to use from many threads."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._used = 0
        self._closed = False
        self._changed = threading.Condition()
        self._turn = threading.Lock()

    def claim(self, num_bytes: int) -> None:
        """Wait until there is room, first come first served, so that a large video gets some, too.

        Raises `VideoError` if there can never be so much, and `RoomClosedError` when closed.
        """
        if num_bytes > self.max_bytes:
            raise VideoError(
                f"it has {num_bytes:,} bytes, and fetched videos may take {self.max_bytes:,} here: "
                "raise that (--scratch-size), or give a folder with more space (--scratch)"
            )
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._closed or self._used + num_bytes <= self.max_bytes)
            if self._closed:
                raise RoomClosedError
            self._used += num_bytes

    def give_back(self, num_bytes: int) -> None:
        """Let others have so many bytes."""
        with self._changed:
            self._used -= num_bytes
            self._changed.notify_all()

    def close(self) -> None:
        """Refuse room from now on, to those who wait for it too."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether the run ends."""
        return self._closed
