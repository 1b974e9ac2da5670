"""Fetching videos while others are decoded: a few are always here before they are needed."""

from __future__ import annotations

import queue
import threading
from typing import Generic, TypeVar

from r2t.extract.fetch.remote_video import VideoLocation
from r2t.extract.fetch.scratch import FetchedVideo, Scratch
from r2t.extract.fetch.turns import Turns

_NUM_THREADS = 4
_PATIENCE_SECONDS = 1.0  # for a thread that still waits for a server, but is no longer needed

_Job = TypeVar("_Job")


class FetchAhead(Generic[_Job]):
    """Hands out jobs with their videos, of which at most `num_held` are here at a time.

    Videos that were here before are handed out as they are. `take` may be called from many threads.
    """

    def __init__(self, scratch: Scratch, turns: Turns[_Job], *, num_held: int) -> None:
        self._scratch = scratch
        self._turns = turns
        self._ready: queue.SimpleQueue[tuple[_Job, FetchedVideo] | BaseException | None]
        self._ready = queue.SimpleQueue()
        self._seats = threading.Semaphore(num_held)
        self._threads = [
            threading.Thread(target=self._work, name=f"r2t-fetch-{number}", daemon=True)
            for number in range(min(_NUM_THREADS, num_held, turns.num_remote))
        ]
        self._num_working = len(self._threads)
        self._closed = False
        self._settled = threading.Condition()
        for thread in self._threads:
            thread.start()

    def take(self) -> tuple[_Job, FetchedVideo] | None:
        """Return the next job and its video, to be used in a `with` block; None if none is left.

        Raises an error that any other video would meet as well; see `Scratch.fetch`.
        """
        if not self._threads:
            found = self._next()
            return None if found is None else (found[0], self._fetched(*found))
        item = self._ready.get()
        if item is None or isinstance(item, BaseException):
            self._ready.put(item)  # for the others that take
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Fetch no more, and remove what nobody has taken."""
        self._scratch.close()
        with self._settled:
            self._closed = True
            self._settled.notify_all()
        for _ in self._threads:
            self._seats.release()
        self._ready.put(None)
        for thread in self._threads:
            thread.join(_PATIENCE_SECONDS)

    def _work(self) -> None:
        try:
            while True:
                self._seats.acquire()
                found = self._next()
                if found is None:
                    break
                fetched = self._fetched(*found)
                fetched.stack.callback(self._seats.release)
                self._ready.put((found[0], fetched))
            with self._settled:
                self._num_working -= 1
                last = self._num_working == 0
            if last:
                self._ready.put(None)
        except BaseException as error:  # carried over to the threads that take
            self._ready.put(error)

    def _next(self) -> tuple[_Job, VideoLocation] | None:
        """Return the next job; wait where it depends on what becomes of those under way."""
        with self._settled:
            while not self._closed:
                found = self._turns.take()
                if found is not None or self._turns.num_under_way == 0:
                    return found
                self._settled.wait()
        return None

    def _fetched(self, job: _Job, place: VideoLocation) -> FetchedVideo:
        fetched = self._scratch.fetch(place)
        with self._settled:
            self._turns.settle(job, place, fetched.silence)
            self._settled.notify_all()
        return fetched
