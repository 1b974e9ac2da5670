"""How many threads compute on a CPU: as many as the work is worth and as are free.

Threads of one product or sum wait for each other at its end, in loops that take a core's time. With
small products they wait more than they compute; where another process has taken one of their cores,
all of them wait for it. A number in OMP_NUM_THREADS or MKL_NUM_THREADS is kept as it is; one given
to `torch.set_num_threads` is never exceeded.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from r2t.store.machine import CoreWatch

# Multiplications and additions that keep a core busy for a millisecond or two.
WORTH_SPLITTING = 1e8
_FIXED_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_watch = CoreWatch()
# Of each thread, as is torch's own number: what that was before `threads_for` changed it.
_most_threads: ContextVar[int | None] = ContextVar("most_threads", default=None)


def linear_work(num_rows: int, in_width: int, out_width: int) -> float:
    """Return the operations of a linear layer on so many rows."""
    return 2.0 * num_rows * in_width * out_width


def fitting_threads(most: int, free_cores: float, work: float) -> int:
    """Return how many threads should share one product of so many operations."""
    return min(most, _whole(free_cores)) if work >= WORTH_SPLITTING else 1


def fitting_lanes(most: int, free_cores: float, num_parts: int) -> tuple[int, int]:
    """Return how many lanes should share so many parts, and the threads of torch for each lane."""
    cores = min(most, _whole(free_cores))
    lanes = min(cores, num_parts)
    return lanes, cores // lanes


def lanes_for(num_parts: int) -> tuple[int, int]:
    """Return lanes, and threads of each, for parts of some work at this moment."""
    own, most = torch.get_num_threads(), _most_threads.get()
    if most is None:
        return fitting_lanes(own, _free_cores(own), num_parts)
    lanes, threads = fitting_lanes(most, _free_cores(most), num_parts)
    return lanes, min(threads, own)


@contextmanager
def threads_for(work: float) -> Generator[None]:
    """Let torch use what products of so many operations are worth, if nobody has fixed it.

    The number stays for as long as the context, since sums in another number of threads round
    otherwise; lanes follow what is free, since they don't.
    """
    own = torch.get_num_threads()
    most = _most_threads.get() or own
    token = _most_threads.set(most)
    if not _is_fixed():
        torch.set_num_threads(fitting_threads(most, _free_cores(most), work))
    try:
        yield
    finally:
        _most_threads.reset(token)
        torch.set_num_threads(own)


def _free_cores(most: int) -> float:
    return float(most) if _is_fixed() else _watch.free_cores()


def _is_fixed() -> bool:
    return any(os.environ.get(name) for name in _FIXED_BY)


def _whole(cores: float) -> int:
    return max(1, int(cores + 0.5))
