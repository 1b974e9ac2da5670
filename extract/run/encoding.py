"""Threads that run the model on windows of frames while others are decoded and written.

A GPU takes one window at a time. On a CPU each core takes a window of its own: the threads of one
matrix product wait for each other at its end, and a decoder that takes a core meanwhile makes all
of them wait; threads that share nothing lose nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float16

from r2t.extract.clip import FrozenClip
from r2t.extract.run.stages import StageClock
from r2t.extract.video import Decoded, FrameBatch, VideoJob
from r2t.store.machine import allowed_cores

_MOST_LANES = 16
_AHEAD = 4  # windows a lane may be ahead of the oldest: none idles behind a neighbour's long one

Tokens = Float16[np.ndarray, "layers frames tokens width"]


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
    clip: FrozenClip, decoded: Iterable[tuple[VideoJob, Decoded]], clock: StageClock
) -> Generator[tuple[VideoJob, Decoded, Tokens | None]]:
    """Pass on what was decoded, in its order, and beside each window of frames its tokens.

    `clock` hears of the work as the stage "encode".
    """
    lanes, _ = encoding_lanes(clip.device)

    def encode(batch: FrameBatch) -> Tokens:
        with clock.timed("encode", len(batch)):
            return clip.encode_frames(batch.pixels)

    pending: deque[tuple[VideoJob, Decoded, Future[Tokens] | None]] = deque()
    pool = encoding_pool(clip.device)
    try:
        for job, event in decoded:
            future = pool.submit(encode, event) if isinstance(event, FrameBatch) else None
            pending.append((job, event, future))
            while len(pending) > _AHEAD * lanes or (pending and _is_done(pending[0][2])):
                yield _finished(*pending.popleft())
        while pending:
            yield _finished(*pending.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _is_done(future: Future[Tokens] | None) -> bool:
    return future is None or future.done()


def _finished(
    job: VideoJob, event: Decoded, future: Future[Tokens] | None
) -> tuple[VideoJob, Decoded, Tokens | None]:
    return job, event, None if future is None else future.result()
