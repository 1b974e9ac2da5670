"""Threads that work on tiles side by side, each with one thread of torch.

The threads of one product or sum wait for each other at its end, many times in a tile; tiles share
nothing until they are done. Tiles are dealt out in parts, whose number depends on nothing but how
many tiles there are: which lane takes a part, and how many lanes there are, changes no result.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

from r2t.train.cpu_threads import lanes_for

MOST_PARTS = 16  # Python itself lets one thread run at a time

_T = TypeVar("_T")


def count_parts(device: torch.device, num_tiles: int) -> int:
    """Return in how many parts to work on tiles: one on a GPU, which is wide by itself."""
    return min(MOST_PARTS, num_tiles) if device.type == "cpu" else 1


def in_lanes(num_parts: int, work: Callable[[int], _T]) -> list[_T]:
    """Call `work` with the number of each part, in threads that compute without gradients.

    The calling thread is one of them. A single part has all of torch's threads.
    """
    if num_parts == 1:
        return [work(0)]
    lanes, num_threads = lanes_for(num_parts)
    inference = torch.is_inference_mode_enabled()
    waiting = deque(range(num_parts))
    found: dict[int, _T] = {}

    def lane() -> None:
        torch.set_num_threads(num_threads)  # torch keeps it for each thread
        with torch.inference_mode(inference), torch.no_grad():
            while waiting:
                try:
                    part = waiting.popleft()
                except IndexError:  # another lane was faster
                    return
                found[part] = work(part)

    before = torch.get_num_threads()
    others = [_pool(os.getpid()).submit(lane) for _ in range(lanes - 1)]
    try:
        lane()
    finally:
        for other in others:
            other.exception()  # waits
        torch.set_num_threads(before)
    for other in others:
        other.result()
    return [found[part] for part in range(num_parts)]


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the lanes of a process; a forked one has lost those of its parent."""
    return ThreadPoolExecutor(MOST_PARTS, f"r2t-tiles-{process}")
