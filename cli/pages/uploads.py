"""The files that open pages have uploaded: which page shows which, how many bytes, when they go.

Equal files of two pages are one file on the disk, so it stays until the last page lets go of it.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

UNUSED_SECONDS = 600.0  # how long an upload may wait until its page shows it


class Uploads:
    """A folder of uploads of at most `max_bytes`; safe to use from many threads."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._shown: dict[str, tuple[Path, int]] = {}  # by page: the file and when it was written
        self._arriving = 0
        self._lock = threading.Lock()

    def show(self, page: str, path: Path) -> None:
        """Note that a page now shows this file and no other."""
        with self._lock, suppress(FileNotFoundError):
            self._shown[page] = path, path.stat().st_mtime_ns

    def release(self, page: str) -> Path | None:
        """Remove what a page showed, unless another page shows it too; return it if it is gone."""
        with self._lock:
            path, written = self._shown.pop(page, (None, 0))
            if path is None or self._in_use(path):
                return None
            with suppress(FileNotFoundError):
                # Written anew: another page has just uploaded an equal file and will show it.
                if path.stat().st_mtime_ns != written:
                    return None
                path.unlink()
            return path

    def leave(self, page: str) -> None:
        """Note that a page is gone; it may come back, so `sweep` removes its file later."""
        with self._lock:
            self._shown.pop(page, None)

    def sweep(self, now: float | None = None) -> None:
        """Remove files that no page shows and that are older than `UNUSED_SECONDS`."""
        oldest = (time.time() if now is None else now) - UNUSED_SECONDS
        with self._lock:
            for path in self._files():
                with suppress(FileNotFoundError):
                    if not self._in_use(path) and path.stat().st_mtime < oldest:
                        path.unlink()

    def begin(self, num_bytes: int) -> bool:
        """Reserve room for an upload; return whether there is any. `end` gives it back."""
        self.sweep()
        with self._lock:
            used = self._arriving
            for path in self._files():
                with suppress(FileNotFoundError):
                    used += path.stat().st_size
            if used + num_bytes > self._max_bytes:
                return False
            self._arriving += num_bytes
            return True

    def end(self, num_bytes: int) -> None:
        """Give back what `begin` reserved: the file is there now, or never will be."""
        with self._lock:
            self._arriving -= num_bytes

    def _in_use(self, path: Path) -> bool:
        return any(shown == path for shown, _ in self._shown.values())

    def _files(self) -> list[Path]:
        return [path for path in self._folder.rglob("*") if path.is_file()]
