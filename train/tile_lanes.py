"""Threads that work on tiles side by side, each with one thread of torch.

The threads of one product or sum wait for each other at its end, many times in a tile; tiles share
nothing until they are done.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

MOST_LANES = 16  # Python itself lets one thread run at a time

_T = TypeVar("_T")


def count_lanes(device: torch.device, num_tiles: int) -> int:
    """Return how many tiles to work on at a time: one on a GPU, which is wide by itself."""
    return min(MOST_LANES, torch.get_num_threads(), num_tiles) if device.type == "cpu" else 1


def in_lanes(num_lanes: int, work: Callable[[int], _T]) -> list[_T]:
    """Call `work` with the number of each lane, in threads that compute without gradients.

    A single lane is the calling thread.
    """
    if num_lanes == 1:
        return [work(0)]
    # Torch keeps these for each thread.
    num_threads = torch.get_num_threads() // num_lanes
    inference = torch.is_inference_mode_enabled()

    def enter(lane: int) -> _T:
        torch.set_num_threads(num_threads)
        with torch.inference_mode(inference), torch.no_grad():
            return work(lane)

    with ThreadPoolExecutor(num_lanes, "r2t-tiles") as pool:
        return list(pool.map(enter, range(num_lanes)))
