"""Fetching videos while others are decoded: a few are always here before they are needed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Generic, TypeVar

from r2t.extract.fetch.remote_video import RemoteVideo, VideoLocation
from r2t.extract.fetch.scratch import FetchedVideo, Scratch

_NUM_THREADS = 4
_PATIENCE_SECONDS = 1.0  # for a thread that waits for a server, and is not needed any more


_Job = TypeVar("_Job")


class FetchAhead(Generic[_Job]):
    """Hands out jobs with their videos, of which at most `num_held` are here at a time.

    Videos that were here before are handed out as they are. `take` may be called from many threads.
    """

    def __init__(
        self, scratch: Scratch, jobs: Sequence[tuple[_Job, VideoLocation]], *, num_held: int
    ) -> None:
        self._scratch = scratch
        self._waiting: queue.SimpleQueue[tuple[_Job, VideoLocation]] = queue.SimpleQueue()
        for job in jobs:
            self._waiting.put(job)
        self._ready: queue.SimpleQueue[tuple[_Job, FetchedVideo] | BaseException | None]
        self._ready = queue.SimpleQueue()
        self._seats = threading.Semaphore(num_held)
        num_remote = sum(isinstance(place, RemoteVideo) for _, place in jobs)
        self._threads = [
            threading.Thread(target=self._work, name=f"r2t-fetch-{number}", daemon=True)
            for number in range(min(_NUM_THREADS, num_held, num_remote))
        ]
        self._num_working = len(self._threads)
        self._lock = threading.Lock()
        for thread in self._threads:
            thread.start()

    def take(self) -> tuple[_Job, FetchedVideo] | None:
        """Return the next job and its video, to be used in a `with` block; None if none is left.

        Raises what no other video would fare better with; see `Scratch.fetch`.
        """
        if not self._threads:
            try:
                job, place = self._waiting.get_nowait()
            except queue.Empty:
                return None
            return job, self._scratch.fetch(place)
        item = self._ready.get()
        if item is None or isinstance(item, BaseException):
            self._ready.put(item)  # for the others that take
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Fetch no more, and remove what nobody has taken."""
        self._scratch.close()
        with self._lock:
            self._num_working = 0
        for _ in self._threads:
            self._seats.release()
        self._ready.put(None)
        for thread in self._threads:
            thread.join(_PATIENCE_SECONDS)

    def _work(self) -> None:
        try:
            while True:
                self._seats.acquire()
                job, place = self._waiting.get_nowait()
                fetched = self._scratch.fetch(place)
                fetched.stack.callback(self._seats.release)
                self._ready.put((job, fetched))
        except queue.Empty:
            with self._lock:
                self._num_working -= 1
                last = self._num_working == 0
            if last:
                self._ready.put(None)
        except BaseException as error:  # carried over to the threads that take
            self._ready.put(error)
