"""Whether the model waits for data, and a trace of a few steps.

On a CPU the clock is the host's. A GPU works while the host is ahead of it, so there the time is
taken by events in its stream: after a step, and when the next batch has arrived.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import torch

from r2t.train.data import Batch

_MAX_OPEN_MARKS = 64
_TRACED_STEPS = 4
_SKIPPED_STEPS = 3  # the first steps load kernels and fill caches


class Stopwatch:
    """Splits the time of a loop over batches into waiting for them and working on them."""

    def __init__(self, device: torch.device) -> None:
        self.wait_seconds = 0.0
        self.step_seconds = 0.0
        self._device = device
        self._marks: list[_Mark] = []

    def watch(self, batches: Iterator[Batch]) -> Generator[Batch]:
        """Yield the batches; time spent here is waiting, time spent outside is work."""
        self._marks = [_mark(self._device)]
        for batch in batches:
            self._marks.append(_mark(self._device))
            yield batch
            self._marks.append(_mark(self._device))
            if len(self._marks) > _MAX_OPEN_MARKS:
                self.read(keep=_MAX_OPEN_MARKS // 2)  # these the GPU has passed long ago

    def read(self, keep: int = 0) -> None:
        """Bring the sums up to date but for the last marks; on a GPU this waits for the others."""
        while len(self._marks) > keep + 2:
            asked, arrived, done = self._marks[:3]
            self.wait_seconds += _between(asked, arrived)
            self.step_seconds += _between(arrived, done)
            del self._marks[:2]


_Mark = float | torch.cuda.Event


def _mark(device: torch.device) -> _Mark:
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def _between(earlier: _Mark, later: _Mark) -> float:
    if isinstance(earlier, float) and isinstance(later, float):
        return later - earlier
    assert isinstance(earlier, torch.cuda.Event)
    assert isinstance(later, torch.cuda.Event)
    later.synchronize()
    return earlier.elapsed_time(later) / 1000


@contextlib.contextmanager
def tracing(path: Path | None) -> Generator[Callable[[], None]]:
    """Yield what to call after each step; the trace of a few steps is written to `path`.

    It is in the format that chrome://tracing and Perfetto open. Without a path nothing is traced.
    """
    if path is None:
        yield lambda: None
        return
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)

    def write(profiler: torch.profiler.profile) -> None:
        profiler.export_chrome_trace(str(path))

    with torch.profiler.profile(
        activities=activities,
        schedule=torch.profiler.schedule(
            wait=_SKIPPED_STEPS - 1, warmup=1, active=_TRACED_STEPS, repeat=1
        ),
        on_trace_ready=write,
    ) as profiler:
        yield profiler.step
