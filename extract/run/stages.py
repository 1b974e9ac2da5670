"""How busy each stage of a run was, and which one held the others up."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic


@dataclass(frozen=True)
class Stage:
    """The work of one stage: `num_lanes` workers shared `busy_seconds` of it."""

    name: str
    num_frames: int
    busy_seconds: float
    num_lanes: int

    @property
    def frames_per_second(self) -> float:
        """How many frames the stage would bring forth if it never waited for another."""
        return self.num_frames * self.num_lanes / self.busy_seconds if self.busy_seconds else 0.0

    def utilisation(self, seconds: float) -> float:
        """Return the share of a time that its workers were busy."""
        return self.busy_seconds / (self.num_lanes * seconds) if seconds else 0.0


def busiest_stage(stages: Sequence[Stage]) -> Stage | None:
    """Return the stage that was busiest, and so set the pace; None if nothing was done."""
    worked = [stage for stage in stages if stage.num_frames]
    return max(worked, key=lambda stage: stage.busy_seconds / stage.num_lanes, default=None)


class StageClock:
    """Adds up the work of stages from many threads; `lanes` are the workers of each."""

    def __init__(self, lanes: Mapping[str, int]) -> None:
        self._lanes = dict(lanes)
        self._frames = dict.fromkeys(lanes, 0)
        self._seconds = dict.fromkeys(lanes, 0.0)
        self._lock = threading.Lock()

    def add(self, name: str, num_frames: int, seconds: float) -> None:
        """Record work that was measured elsewhere."""
        with self._lock:
            self._frames[name] += num_frames
            self._seconds[name] += seconds

    def set_lanes(self, name: str, num_lanes: int) -> None:
        """Say how many workers a stage has, once that is known."""
        with self._lock:
            self._lanes[name] = num_lanes

    @contextmanager
    def timed(self, name: str, num_frames: int = 0) -> Generator[None]:
        """Record the work of a block."""
        began = monotonic()
        try:
            yield
        finally:
            self.add(name, num_frames, monotonic() - began)

    def stages(self) -> tuple[Stage, ...]:
        """Return what has been recorded so far."""
        with self._lock:
            return tuple(
                Stage(name, self._frames[name], self._seconds[name], lanes)
                for name, lanes in self._lanes.items()
            )
