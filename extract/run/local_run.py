"""Videos extracted by this process: threads decode and encode ahead of the one that writes.

A GPU takes one window of frames at a time. On a CPU each core takes a window of its own: the
threads of one matrix product wait for each other at its end, and a decoder that takes a core
meanwhile makes all of them wait; threads that share nothing lose nothing.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from types import TracebackType

import torch

from r2t.extract.clip import FrozenClip
from r2t.extract.config import ExtractConfig
from r2t.extract.run.one_video import (
    FramesDecoded,
    FramesEncoded,
    VideoEnd,
    VideoFailed,
    VideoJob,
    VideoSink,
    decode_video,
    encode,
    open_decode_pool,
)
from r2t.extract.run.progress import StageClock, Tally
from r2t.extract.video import DecodePool
from r2t.store.machine import allowed_cores
from r2t.store.writer import StoreWriter

_STOP_EVERY_SECONDS = 0.2
_DECODED_AHEAD = 8  # windows, so that a long video does not leave the model waiting
_MOST_LANES = 16
_ENCODED_AHEAD = 4  # windows a lane may be ahead of the oldest: none waits for a neighbour's
_WRITTEN_BEHIND = 4  # windows of features in memory, besides the one being written


class LocalRun:
    """An extraction by this process; `tally` records what becomes of its videos."""

    def __init__(self, config: ExtractConfig, clip: FrozenClip, tally: Tally) -> None:
        self._config = config
        self._clip = clip
        self._tally = tally

    def extract_videos(self, writer: StoreWriter, jobs: Sequence[VideoJob]) -> None:
        """Extract every video or find out why not; what is wrong with the disk is raised."""
        tally = self._tally
        num_workers = max(1, min(self._config.num_workers, len(jobs)))
        lanes, _ = encoding_lanes(self._clip.device)
        tally.clock.set_lanes(decode=num_workers, encode=lanes, write=1)
        if not jobs:
            return
        pool = open_decode_pool(
            self._config, num_workers, size=self._clip.image_size, window=self._clip.batch_size
        )
        with (
            closing(decode_ahead(pool, jobs, num_threads=num_workers)) as decoded,
            closing(encode_ahead(self._clip, decoded, tally.clock)) as encoded,
            _WritingThread(VideoSink(writer, tally)) as writing,
        ):
            for event in encoded:
                writing.take(event)
                video_id = event.job.video_id
                if isinstance(event, FramesEncoded):
                    tally.add_frames(video_id, event.num_frames, event.part_finished)
                else:
                    reason = event.reason if isinstance(event, VideoFailed) else None
                    tally.finish(video_id, reason)


def decode_ahead(
    pool: DecodePool, jobs: Sequence[VideoJob], *, num_threads: int
) -> Generator[FramesDecoded | VideoEnd]:
    """Decode several videos at a time; each yields its frames in order, then its end.

    Holds at most eight windows beside those being decoded. Closing the generator closes
    the pool, so that no thread is left waiting for a worker.
    """
    hand_over = _HandOver(pool, jobs, _DECODED_AHEAD)
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
        self.ready: queue.Queue[FramesDecoded | VideoEnd | BaseException | None] = queue.Queue(
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
                for event in decode_video(self._pool, self._waiting.get_nowait()):
                    self._put(event)
        except queue.Empty:
            self._put(None)
        except BaseException as error:  # carried over to the thread that reads
            self._put(error)

    def _put(self, item: FramesDecoded | VideoEnd | BaseException | None) -> None:
        while not self.stop.is_set():
            try:
                self.ready.put(item, timeout=_STOP_EVERY_SECONDS)
            except queue.Full:
                continue
            return


def encoding_lanes(device: torch.device, cores: int | None = None) -> tuple[int, int]:
    """Return how many windows to encode at a time, and with how many threads of torch each."""
    cores = cores or allowed_cores()
    if device.type != "cpu":
        return 1, cores
    lanes = min(_MOST_LANES, cores)
    return lanes, cores // lanes


def encoding_pool(device: torch.device) -> ThreadPoolExecutor:
    """Start a thread for each lane, limited to its share of torch's threads."""
    lanes, threads = encoding_lanes(device)
    # Torch keeps the number of threads for each thread that calls it.
    return ThreadPoolExecutor(lanes, "r2t-encode", torch.set_num_threads, (threads,))


def encode_ahead(
    clip: FrozenClip, decoded: Iterable[FramesDecoded | VideoEnd], clock: StageClock
) -> Generator[FramesEncoded | VideoEnd]:
    """Encode what is decoded, several windows at a time, and yield it in the order it came in."""
    lanes, _ = encoding_lanes(clip.device)
    pending: deque[Future[FramesEncoded] | VideoEnd] = deque()
    pool = encoding_pool(clip.device)
    try:
        for event in decoded:
            frames = isinstance(event, FramesDecoded)
            pending.append(pool.submit(encode, clip, event, clock) if frames else event)
            while len(pending) > _ENCODED_AHEAD * lanes or (pending and _is_ready(pending[0])):
                yield _result(pending.popleft())
        while pending:
            yield _result(pending.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _is_ready(event: Future[FramesEncoded] | VideoEnd) -> bool:
    return not isinstance(event, Future) or event.done()


def _result(event: Future[FramesEncoded] | VideoEnd) -> FramesEncoded | VideoEnd:
    return event.result() if isinstance(event, Future) else event


class _WritingThread:
    """A thread that writes events into a sink; what the sink raises, the next call raises."""

    def __init__(self, sink: VideoSink) -> None:
        self._sink = sink
        self._waiting: queue.Queue[FramesEncoded | VideoEnd | None] = queue.Queue(_WRITTEN_BEHIND)
        self._fatal: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="r2t-writer", daemon=True)

    def __enter__(self) -> _WritingThread:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waiting.put(None)
        self._thread.join()
        if kind is None:
            self._raise_fatal()

    def take(self, event: FramesEncoded | VideoEnd) -> None:
        """Hand over what the sink is to take next."""
        self._raise_fatal()
        self._waiting.put(event)

    def _raise_fatal(self) -> None:
        if self._fatal is not None:
            raise self._fatal

    def _work(self) -> None:
        with self._sink:
            while (event := self._waiting.get()) is not None:
                if self._fatal is not None:
                    continue
                try:
                    self._sink.take(event)
                except BaseException as error:  # carried over to the thread that calls
                    self._fatal = error
