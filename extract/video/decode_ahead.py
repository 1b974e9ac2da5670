"""Threads that decode videos ahead of the model, each through a worker of a `DecodePool`."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2t.extract.video.decode_pool import DecodePool
from r2t.extract.video.frames import FrameBatch, file_sha256
from r2t.store.errors import R2TError, VideoError
from r2t.store.schema import VideoSource

_STOP_EVERY_SECONDS = 0.2
_WINDOWS_AHEAD = 8  # so that a long video does not leave the model waiting


@dataclass(frozen=True)
class VideoJob:
    """One video to extract."""

    video_id: str
    path: Path
    frame_rate_fps: float


Decoded = FrameBatch | VideoSource | R2TError
"""Next frames; or the end of a video, with what it was; or the end of one that failed."""


def decode_videos(
    pool: DecodePool, jobs: Sequence[VideoJob], *, num_threads: int
) -> Generator[tuple[VideoJob, Decoded]]:
    """Decode several videos at a time; each yields its frames in order, then its end.

    Holds at most eight windows beside those being decoded. Closing the generator closes
    the pool, so that no thread is left waiting for a worker.
    """
    hand_over = _HandOver(pool, jobs, _WINDOWS_AHEAD)
    threads = [
        threading.Thread(target=hand_over.work, name=f"r2t-decode-{number}", daemon=True)
        for number in range(num_threads)
    ]
    for thread in threads:
        thread.start()
    try:
        running = num_threads
        while running:
            item = hand_over.ready.get()
            if item is None:
                running -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        hand_over.stop.set()
        pool.close()
        for thread in threads:
            thread.join()


class _HandOver:
    """What the threads share; None in `ready` means that one of them has nothing left to do."""

    def __init__(self, pool: DecodePool, jobs: Sequence[VideoJob], capacity: int) -> None:
        self.ready: queue.Queue[tuple[VideoJob, Decoded] | BaseException | None] = queue.Queue(
            capacity
        )
        self.stop = threading.Event()
        self._pool = pool
        self._waiting: queue.SimpleQueue[VideoJob] = queue.SimpleQueue()
        for job in jobs:
            self._waiting.put(job)

    def work(self) -> None:
        try:
            while not self.stop.is_set():
                job = self._waiting.get_nowait()
                for event in decode_events(self._pool, job):
                    self._put((job, event))
        except queue.Empty:
            self._put(None)
        except BaseException as error:  # carried over to the thread that reads
            self._put(error)

    def _put(self, item: tuple[VideoJob, Decoded] | BaseException | None) -> None:
        while not self.stop.is_set():
            try:
                self.ready.put(item, timeout=_STOP_EVERY_SECONDS)
            except queue.Full:
                continue
            return


def decode_events(pool: DecodePool, job: VideoJob) -> Iterator[Decoded]:
    """Decode one video; what is wrong with it is yielded last, not raised."""
    try:
        decoder = ""
        for batch in pool.stream(job.path, job.frame_rate_fps):
            decoder = batch.decoder
            yield batch
        digest = file_sha256(job.path)
        yield VideoSource(
            name=job.path.name,
            num_bytes=job.path.stat().st_size,
            sha256=digest,
            decoder=decoder,
        )
    except R2TError as error:
        yield error
    except OSError as error:
        yield VideoError(f"{job.path}: cannot be read: {error.strerror or error}")
