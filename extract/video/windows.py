"""Memory for windows of frames: so many at a time, however many decoders there are."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8


def _plain_memory(num_bytes: int) -> UInt8[np.ndarray, " bytes"]:
    return np.empty(num_bytes, np.uint8)


class FrameWindows:
    """Hands out memory for windows, and lets a decoder wait while `num_windows` are in use.

    Whoever is done with a window gives it back. `allocate` makes memory of so many bytes, such as a
    GPU can copy from by itself.
    """

    def __init__(
        self,
        num_windows: int,
        allocate: Callable[[int], UInt8[np.ndarray, " bytes"]] = _plain_memory,
    ) -> None:
        self.num_windows = num_windows
        self._allocate = allocate
        self._in_use = 0
        self._closed = False
        self._changed = threading.Condition()

    def take(self, shape: tuple[int, ...]) -> UInt8[np.ndarray, "frames 3 height width"]:
        """Return memory for one window; wait until one may be had.

        Raises:
            RuntimeError: if no more windows are given out.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._in_use < self.num_windows)
            if self._closed:
                raise RuntimeError("no more frames are wanted")
            self._in_use += 1
        try:
            num_bytes = int(np.prod(shape))
            return self._allocate(num_bytes)[:num_bytes].reshape(shape)
        except BaseException:
            self.give()
            raise

    def give(self) -> None:
        """Count a window as free."""
        with self._changed:
            self._in_use -= 1
            self._changed.notify()

    def close(self) -> None:
        """Give out no more, and let go whoever waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
