"""Seconds by the device's own clock, memory, kernels launched, and where the host waited."""

from __future__ import annotations

import gc
import itertools
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from r2t.train.devices import set_arithmetic

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def median_seconds(
    work: Callable[[], object], device: torch.device, *, repeats: int, warmup: int = 2
) -> float:
    """Return the median of some repetitions, each between two events of the device's stream."""
    for _ in range(warmup):
        work()
    if device.type != "cuda":
        seconds: list[float] = []
        for _ in range(repeats):
            began = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds)
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    marks[-1].synchronize()
    pairs = itertools.pairwise(marks)
    return statistics.median(earlier.elapsed_time(later) / 1000 for earlier, later in pairs)


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Return how long it takes until all is done, on the host's clock."""
    settle(device)
    began = time.perf_counter()
    work()
    settle(device)
    return max(time.perf_counter() - began, 1e-9)


def settle(device: torch.device) -> None:
    """Wait until the device has nothing left to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free_memory(device: torch.device) -> None:
    """Give back what nothing holds, so that the next peak is its own."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def launches(work: Callable[[], object], device: torch.device) -> int:
    """Return how many kernels a piece of work launches; on a CPU, how many operators it calls."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        work()
        settle(device)
    counts: Counter[str] = Counter()
    for event in profiler.key_averages():
        counts[event.key] += event.count
    mark = "LaunchKernel" if device.type == "cuda" else "aten::"
    return sum(count for name, count in counts.items() if mark in name)


def host_waits(work: Callable[[], object]) -> Counter[str]:
    """Return where the host waits for the GPU in a piece of work, as `file:line`, and how often."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return Counter(
        f"{Path(each.filename).name}:{each.lineno}"
        for each in caught
        if "synchronizing" in str(each.message)
    )


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a precision of `PRECISIONS` computes."""
    dtype = AUTOCAST.get(precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def set_precision(precision: str) -> None:
    """Let float32 products round to TF32, or not, as r2t does it."""
    set_arithmetic("tf32" if precision == "tf32" else "float32")
