"""Stopping between two steps when asked to, so that a run can be continued from there."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Notes SIGINT and SIGTERM; the loop asks for them when it can stop.

    A second SIGINT raises KeyboardInterrupt at once, as usual: then what was done since the last
    saved state is lost.
    """

    def __init__(self) -> None:
        self.requested = False
        self._raise = False

    @contextmanager
    def caught(self) -> Generator[Interruption]:
        """Catch signals inside the block; only the main thread can, elsewhere nothing changes."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        earlier = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield self
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    @contextmanager
    def raised(self, at_once: bool) -> Generator[None]:
        """Raise KeyboardInterrupt inside the block as soon as asked, or if that has happened."""
        self._raise = at_once
        try:
            if at_once and self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._raise = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = self.requested and number == signal.SIGINT
        self.requested = True
        if again or self._raise:
            raise KeyboardInterrupt
