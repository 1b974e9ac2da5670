"""A disk that several processes fetch videos to: together they leave a tenth of it free.

A file that is being fetched is made as long as it will be before its bytes come. So every process
sees what the others have reserved, nothing is to be cleared behind one that is killed but its
files, and the disk alone says what is free.
"""

from __future__ import annotations

import math
import os
import shutil
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from r2t.extract.fetch.room import RoomClosedError
from r2t.store.errors import VideoError, VideoWarning
from r2t.store.work_folders import held, partial_folder, remove_dead_work

_SHARE_OF_DISK = 0.9  # of what is free but for the videos
_PATIENCE_SECONDS = 0.5  # before it is looked again whether another process has given room back
_LONG_SECONDS = 600.0  # after which it is said that, and for what, a video waits
_BLOCK_BYTES = 512  # what `st_blocks` counts


class SharedDisk:
    """The disk below `partial_folder(root)`, in which each process has a folder of its own."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = partial_folder(root)

    def reserve(
        self,
        path: Path,
        num_bytes: int,
        is_closed: Callable[[], bool],
        *,
        is_bound: bool = False,
    ) -> int:
        """Make a file so long as soon as there is room for it, and return how long.

        With `is_bound` nobody knows how much it needs, but not more: it gets all that there may be.
        Raises `VideoError` if there would be no room without the others, and `RoomClosedError` if
        that is closed meanwhile.
        """
        told_at = time.monotonic() + _LONG_SECONDS
        while not is_closed():
            with held(self._folder):
                others, most = self._look(path)
                wanted = min(num_bytes, most) if is_bound else num_bytes
                if others + wanted <= most:
                    os.truncate(path, wanted)
                    return wanted
            if wanted > most:
                raise VideoError(
                    f"it has {num_bytes:,} bytes, and fetched videos may take {most:,} on this "
                    "disk, of which a tenth stays free: give a folder with more space (--scratch)"
                )
            with suppress(OSError):  # what cannot be cleared stays
                remove_dead_work(self._root, unasked=True)
            if time.monotonic() > told_at:
                told_at = math.inf
                warnings.warn(
                    f"a video waits for room in {self._folder}, where others take {others:,} of "
                    f"{most:,} bytes: if no process works there, remove what is in it",
                    VideoWarning,
                    stacklevel=2,
                )
            time.sleep(_PATIENCE_SECONDS)
        raise RoomClosedError

    def _look(self, own: Path) -> tuple[int, int]:
        """Return how long all files are but the own one, and how long all may be."""
        length = on_disk = 0
        for parent, _, names in os.walk(self._folder):
            for name in names:
                path = Path(parent, name)
                with suppress(OSError):  # gone meanwhile
                    status = path.lstat()
                    length += status.st_size if path != own else 0
                    on_disk += status.st_blocks * _BLOCK_BYTES
        free = shutil.disk_usage(self._folder).free
        return length, int(_SHARE_OF_DISK * (free + on_disk))
