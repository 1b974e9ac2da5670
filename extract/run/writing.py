"""Threads that write: one video by one of them, several videos at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType

from r2t.extract.run.one_video import FramesEncoded, VideoEnd, VideoSink
from r2t.extract.run.progress import Tally
from r2t.store.writer import StoreWriter

_Event = FramesEncoded | VideoEnd


class _Lane:
    """A thread with a sink of its own; None ends it."""

    def __init__(self, number: int, work: Callable[[_Lane], None]) -> None:
        self.waiting: queue.SimpleQueue[_Event | None] = queue.SimpleQueue()
        self.num_unwritten = 0
        self.thread = threading.Thread(
            target=work, args=(self,), name=f"r2t-writer-{number}", daemon=True
        )
        self.thread.start()


class WritingThreads:
    """Writes a video by one of at most `num_threads` threads; what one raises, a later call raises.

    A thread is started when all others are busy. At most `num_windows` of features wait or are
    being written.
    """

    def __init__(
        self, writer: StoreWriter, tally: Tally, *, num_threads: int, num_windows: int
    ) -> None:
        self._writer = writer
        self._tally = tally
        self._num_threads = num_threads
        self._room = threading.Semaphore(num_windows)
        self._lanes: list[_Lane] = []
        self._lane_of: dict[str, _Lane] = {}  # of the videos under way
        self._lock = threading.Lock()
        self._fatal: BaseException | None = None

    def __enter__(self) -> WritingThreads:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for lane in self._lanes:
            lane.waiting.put(None)
        for lane in self._lanes:
            lane.thread.join()
        if kind is None:
            self._raise_fatal()

    def take(self, event: _Event) -> None:
        """Hand over what is to be written next; wait while too much is."""
        self._raise_fatal()
        video_id = event.job.video_id
        lane = self._lane_of.get(video_id) or self._idlest()
        if isinstance(event, FramesEncoded):
            self._room.acquire()
            self._lane_of[video_id] = lane
        else:
            self._lane_of.pop(video_id, None)
        with self._lock:
            lane.num_unwritten += 1
        lane.waiting.put(event)

    def _idlest(self) -> _Lane:
        idlest = min(self._lanes, key=lambda lane: lane.num_unwritten, default=None)
        if idlest is None or (idlest.num_unwritten and len(self._lanes) < self._num_threads):
            idlest = _Lane(len(self._lanes), self._work)
            self._lanes.append(idlest)
        return idlest

    def _raise_fatal(self) -> None:
        if self._fatal is not None:
            raise self._fatal

    def _work(self, lane: _Lane) -> None:
        with VideoSink(self._writer, self._tally) as sink:
            while (event := lane.waiting.get()) is not None:
                try:
                    if self._fatal is None:
                        sink.take(event)
                except BaseException as error:  # carried over to the thread that calls
                    self._fatal = error
                finally:
                    with self._lock:
                        lane.num_unwritten -= 1
                    if isinstance(event, FramesEncoded):
                        self._room.release()
