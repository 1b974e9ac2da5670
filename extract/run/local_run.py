"""Videos extracted by this process: threads decode and encode ahead of those that write.

A GPU takes two windows of frames at a time and copies one while it computes the other. On a CPU
each core takes a window of its own: the threads of one matrix product wait for each other at its
end, and a decoder that takes a core meanwhile makes all of them wait; threads that share nothing
lose nothing.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing

import torch

from r2t.extract.clip import FrozenClip, held_bytes, num_device_lanes, window_memory
from r2t.extract.config import ExtractConfig
from r2t.extract.fetch import FetchAhead, FetchConfig, Scratch, Turns
from r2t.extract.run.one_video import (
    FramesDecoded,
    FramesEncoded,
    VideoEnd,
    VideoFailed,
    VideoJob,
    decode_video,
    encode,
    in_turns,
    leave_silent,
    open_decode_pool,
)
from r2t.extract.run.progress import StageClock, Tally
from r2t.extract.run.writing import WritingThreads
from r2t.extract.video import DecodePool, FrameWindows
from r2t.store.machine import allowed_cores, spare_bytes
from r2t.store.writer import StoreWriter

_DECODED_AHEAD = 8  # windows, so that a long video does not leave the model waiting
_MOST_LANES = 16
_FETCHED_AHEAD = 4  # videos beyond those that are decoded
_ENCODED_AHEAD = 4  # windows a lane may be ahead of the oldest: none waits for a neighbour's
_WRITTEN_BEHIND = 4  # windows of features for each thread that writes
_SHARE_OF_MEMORY = 0.125  # of what is free: for frames, as much for features, for those unwritten


class LocalRun:
    """An extraction by this process; `tally` records what becomes of its videos."""

    def __init__(self, config: ExtractConfig, clip: FrozenClip, tally: Tally) -> None:
        self._config = config
        self._clip = clip
        self._tally = tally

    def extract_videos(self, writer: StoreWriter, jobs: Sequence[VideoJob]) -> None:
        """Extract every video or find out why not; what is wrong with the disk is raised."""
        clip, tally = self._clip, self._tally
        num_decoders = max(1, min(self._config.num_workers, len(jobs)))
        num_lanes, _ = encoding_lanes(clip.device)
        num_writers = num_writing_threads(clip.device)
        tally.clock.set_lanes(decode=num_decoders, encode=num_lanes, write=num_writers)
        if not jobs:
            return
        turns = in_turns(jobs)
        frames = clip.batch_size * 3 * clip.image_size**2
        features = clip.batch_size * 2 * len(clip.vision_layers) * clip.num_tokens
        frame_bytes = held_bytes(clip.device, frames)
        feature_bytes = held_bytes(clip.device, features * clip.vision_width)
        windows = FrameWindows(
            fitting_windows(num_decoders + _DECODED_AHEAD, frame_bytes),
            window_memory(clip.device, frames),
        )
        pool = open_decode_pool(
            self._config,
            num_decoders,
            size=clip.image_size,
            window=clip.batch_size,
            windows=windows,
        )
        num_ahead = fitting_windows(_ENCODED_AHEAD * num_lanes, feature_bytes)
        num_behind = fitting_windows(_WRITTEN_BEHIND * num_writers, feature_bytes)
        with (
            ExitStack() as at_end,
            closing(
                decode_ahead(pool, turns, self._config.fetching, num_threads=num_decoders)
            ) as decoded,
            closing(
                encode_ahead(clip, decoded, tally.clock, num_ahead, on_done=windows.give)
            ) as encoded,
            WritingThreads(
                writer, tally, num_threads=num_writers, num_windows=num_behind
            ) as writing,
        ):
            at_end.callback(leave_silent, turns, tally)
            for event in encoded:
                writing.take(event)
                video_id = event.job.video_id
                if isinstance(event, FramesEncoded):
                    tally.add_frames(video_id, event.num_frames, event.part_finished)
                else:
                    reason = event.reason if isinstance(event, VideoFailed) else None
                    tally.finish(video_id, reason)


def fitting_windows(wanted: int, window_bytes: int, free_bytes: int | None = None) -> int:
    """Return how many windows to hold at a time: as many as wanted, or less if memory is short."""
    free = spare_bytes() if free_bytes is None else free_bytes
    return max(1, min(wanted, int(_SHARE_OF_MEMORY * free / window_bytes)))


def num_writing_threads(device: torch.device, cores: int | None = None) -> int:
    """Return how many videos to write at a time: one keeps pace with a CPU's encoding."""
    return 1 if device.type == "cpu" else max(1, (cores or allowed_cores()) // 2)


def decode_ahead(
    pool: DecodePool,
    turns: Turns[VideoJob],
    bounds: FetchConfig | None = None,
    *,
    num_threads: int,
) -> Generator[FramesDecoded | VideoEnd]:
    """Decode several videos at a time; each yields its frames in order, then its end.

    The pool's windows limit how many are decoded ahead. Closing the generator closes the pool and
    ends fetching, so that no thread is left waiting for a worker or a video.
    """
    scratch = Scratch(bounds or FetchConfig())
    fetching = FetchAhead(scratch, turns, num_held=num_threads + _FETCHED_AHEAD)
    hand_over = _HandOver(pool, fetching)
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
        fetching.close()
        pool.close()
        for thread in threads:
            thread.join()


class _HandOver:
    """What the threads share; None in `ready` means that one of them has nothing left to do."""

    def __init__(self, pool: DecodePool, fetching: FetchAhead[VideoJob]) -> None:
        self.ready: queue.SimpleQueue[FramesDecoded | VideoEnd | BaseException | None] = (
            queue.SimpleQueue()
        )
        self.stop = threading.Event()
        self._pool = pool
        self._fetching = fetching

    def work(self) -> None:
        try:
            while not self.stop.is_set() and (taken := self._fetching.take()):
                job, video = taken
                with video:
                    for event in decode_video(self._pool, job, video):
                        self.ready.put(event)
            self.ready.put(None)
        except BaseException as error:  # carried over to the thread that reads
            self.ready.put(error)


def encoding_lanes(device: torch.device, cores: int | None = None) -> tuple[int, int]:
    """Return how many windows to encode at a time, and with how many threads of torch each."""
    cores = cores or allowed_cores()
    lanes = num_device_lanes(device) or min(_MOST_LANES, cores)
    return lanes, max(1, cores // lanes)


def encoding_pool(device: torch.device) -> ThreadPoolExecutor:
    """Start a thread for each lane, limited to its share of torch's threads."""
    lanes, threads = encoding_lanes(device)
    # Torch keeps the number of threads for each thread that calls it.
    return ThreadPoolExecutor(lanes, "r2t-encode", torch.set_num_threads, (threads,))


def encode_ahead(
    clip: FrozenClip,
    decoded: Iterable[FramesDecoded | VideoEnd],
    clock: StageClock,
    num_ahead: int,
    *,
    on_done: Callable[[], None] = lambda: None,
) -> Generator[FramesEncoded | VideoEnd]:
    """Encode what is decoded, several windows at a time, and yield it in the order it came in.

    Holds the features of at most `num_ahead` windows. `on_done` is called after each window, whose
    pixels are needed no more.
    """
    pending: deque[Future[FramesEncoded] | VideoEnd] = deque()

    def work(frames: FramesDecoded) -> FramesEncoded:
        try:
            return encode(clip, frames, clock)
        finally:
            on_done()

    pool = encoding_pool(clip.device)
    try:
        for event in decoded:
            frames = isinstance(event, FramesDecoded)
            pending.append(pool.submit(work, event) if frames else event)
            while len(pending) > num_ahead or (pending and _is_ready(pending[0])):
                yield _result(pending.popleft())
        while pending:
            yield _result(pending.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _is_ready(event: Future[FramesEncoded] | VideoEnd) -> bool:
    return not isinstance(event, Future) or event.done()


def _result(event: Future[FramesEncoded] | VideoEnd) -> FramesEncoded | VideoEnd:
    return event.result() if isinstance(event, Future) else event
