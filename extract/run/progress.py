"""How far an extraction is: what became of its videos, and how busy each of its stages was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

_STAGES: tuple[str, ...] = ("decode", "encode", "write")


@dataclass(frozen=True)
class Stage:
    """The work of one stage: `num_lanes` workers shared `busy_seconds` of it."""

    name: str
    num_frames: int
    busy_seconds: float
    num_lanes: int

    @property
    def frames_per_second(self) -> float:
        """How many frames the stage would get done if it never waited for another."""
        return self.num_frames * self.num_lanes / self.busy_seconds if self.busy_seconds else 0.0

    def utilisation(self, seconds: float) -> float:
        """Return the share of a time that its workers were busy."""
        return self.busy_seconds / (self.num_lanes * seconds) if seconds else 0.0


def busiest_stage(stages: Sequence[Stage]) -> Stage | None:
    """Return the stage that was busiest, and so set the pace; None if nothing was done."""
    worked = [stage for stage in stages if stage.num_frames]
    return max(worked, key=lambda stage: stage.busy_seconds / stage.num_lanes, default=None)


class StageClock:
    """Adds up the work of decoding, encoding and writing from many threads."""

    def __init__(self) -> None:
        self._lanes = dict.fromkeys(_STAGES, 1)
        self._frames = dict.fromkeys(_STAGES, 0)
        self._seconds = dict.fromkeys(_STAGES, 0.0)
        self._lock = threading.Lock()

    def add(self, name: str, num_frames: int, seconds: float) -> None:
        """Record work that was measured elsewhere."""
        with self._lock:
            self._frames[name] += num_frames
            self._seconds[name] += seconds

    def set_lanes(self, **num_lanes: int) -> None:
        """Say how many workers each stage has, once that is known; it is one until then."""
        with self._lock:
            self._lanes |= num_lanes

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


@dataclass(frozen=True)
class ExtractProgress:
    """How far an extraction is.

    `num_finished` videos of `num_videos` have succeeded or failed, and `part_finished` is how much
    more is done of those under way, in videos. `failed` names the latest if it failed.
    """

    num_finished: int
    num_videos: int
    part_finished: float = 0.0
    num_frames: int = 0
    stages: tuple[Stage, ...] = ()
    failed: tuple[str, str] | None = None


@dataclass(frozen=True)
class LeftServer:
    """A server that answers nobody, and how many of its videos are left for another run.

    `reason` is why one of them could not be fetched.
    """

    name: str
    num_videos: int
    reason: str


class Tally:
    """What has become of the videos of an extraction so far, counted and reported as it changes.

    `done` are committed; `failed` has the reasons by video id. `left` are for another run, because
    their servers do not answer.
    """

    def __init__(
        self,
        num_videos: int = 1,
        on_progress: Callable[[ExtractProgress], None] = lambda progress: None,
    ) -> None:
        self.done: list[str] = []
        self.failed: dict[str, str] = {}
        self.left: list[LeftServer] = []
        self.num_frames = 0
        self.clock = StageClock()
        self._num_videos = num_videos
        self._on_progress = on_progress
        self._num_finished = 0
        self._under_way: dict[str, float] = {}

    @property
    def stages(self) -> tuple[Stage, ...]:
        """How much work decoding, encoding and writing have been so far."""
        return self.clock.stages()

    def add_frames(self, video_id: str, num_frames: int, part_finished: float) -> None:
        """Count frames of a video under way, of which this part is now done."""
        self.num_frames += num_frames
        self._under_way[video_id] = part_finished
        self._report(None)

    def finish(self, video_id: str, failure: str | None) -> None:
        """Count a video of which nothing more will come."""
        self._num_finished += 1
        self._under_way.pop(video_id, None)
        self._report(None if failure is None else (video_id, failure))

    def leave(self, server: str, video_ids: Sequence[str], reason: str) -> None:
        """Leave videos for another run; those of them that failed have not."""
        for video_id in video_ids:
            self.failed.pop(video_id, None)
        self.left.append(LeftServer(server, len(video_ids), reason))

    def _report(self, failed: tuple[str, str] | None) -> None:
        self._on_progress(
            ExtractProgress(
                self._num_finished,
                self._num_videos,
                sum(self._under_way.values()),
                self.num_frames,
                self.stages,
                failed,
            )
        )
