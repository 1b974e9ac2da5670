"""An extraction on a Dask cluster, seen from the client: tasks handed out, their outcomes counted.

The client holds a few tasks for each thread of the cluster and no more, however many videos there
are. A worker may die at any point, with tasks under way or with outcomes that nobody has asked for
yet: both are done again elsewhere.
"""

from __future__ import annotations

import math
import queue
import warnings
from asyncio import CancelledError
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import cast

from distributed import Future, KilledWorker
from distributed.comm.core import CommClosedError

from r2t.extract.config import ExtractConfig
from r2t.extract.run.cluster import NO_WORKER_SECONDS, Cluster
from r2t.extract.run.cluster_worker import (
    PLUGIN,
    Extractor,
    Outcome,
    extract_one,
    num_encoding_lanes,
)
from r2t.extract.run.one_video import VideoJob, in_turns, leave_silent
from r2t.extract.run.progress import Tally
from r2t.store.errors import ConfigError, R2TError, VideoWarning
from r2t.store.feature_store import FeatureStore
from r2t.store.sources import is_url
from r2t.store.writer import StoreWriter

_LOST = (
    "the connection to the cluster's scheduler was lost; finished videos are safe: run the same "
    "command again"
)
_TASK = "extract"  # what the dashboard groups tasks by; each is ("extract", video id)
_LOOK_EVERY_SECONDS = 2.0
_TASKS_A_THREAD = 4  # with the scheduler, so that no thread waits for the client
_FEWEST_TASKS = 64
_UNDER_WAY = ("pending", "lost")


def _everywhere(location: str) -> str:
    """Return a location that means the same in another working directory."""
    return location if is_url(location) else str(Path(location).absolute())


class ClusterRun:
    """An extraction on a cluster; `tally` records what becomes of its videos."""

    def __init__(
        self, cluster: Cluster, config: ExtractConfig, store: FeatureStore, tally: Tally
    ) -> None:
        self._cluster = cluster
        self._client = cluster.client
        self._config = config
        self._store = store
        self._tally = tally
        self._submitted: dict[str, tuple[VideoJob, Future]] = {}
        self._turns = in_turns(())
        self._redone: list[Future] = []
        self._num_threads = 0
        self._looked_at = -math.inf

    def extract_videos(self, writer: StoreWriter, jobs: Sequence[VideoJob]) -> None:
        """Extract every video or find out why not; what is wrong with a disk is raised."""
        with self._asking():
            lanes = max(1, sum(self._client.nthreads().values()))
        self._tally.clock.set_lanes(decode=lanes, encode=lanes, write=lanes)
        if not jobs:
            return
        worker = Extractor(
            self._cluster.clip_arguments,
            self._config,
            _everywhere(self._store.location),
            self._store.spec,
            ignore_interrupts=self._cluster.local,
        )
        self._submitted.clear()
        self._turns = in_turns(jobs)
        try:
            with self._asking():
                self._client.register_plugin(worker, name=PLUGIN)
                encoding_lanes = self._client.run(num_encoding_lanes)
            self._tally.clock.set_lanes(encode=sum(encoding_lanes.values()))
            finished: queue.SimpleQueue[Future] = queue.SimpleQueue()
            while self._submit(finished):
                self._take(self._next(finished))
        finally:
            with suppress(Exception, CancelledError):  # the scheduler may be what is gone
                self._client.cancel([future for _, future in self._submitted.values()])
                self._client.unregister_worker_plugin(PLUGIN)
            leave_silent(self._turns, self._tally)
            # A worker that died took its index rows along.
            self._store.refresh()
            for video_id in self._tally.done:
                writer.index(video_id)

    def _submit(self, finished: queue.SimpleQueue[Future]) -> bool:
        """Hand out tasks until every thread has a few; return False if none is left anywhere.

        A task costs the client 6 kB and the scheduler 13 kB for as long as it waits.
        """
        room = self._num_wanted() - len(self._submitted)
        for _ in range(room):
            found = self._turns.take()
            if found is None:
                break
            portable = job = found[0]
            if isinstance(job.place, Path):
                portable = replace(job, place=job.place.absolute())
            key = (_TASK, job.video_id)
            with self._asking():
                future = self._client.submit(extract_one, portable, key=key, pure=False)
            self._submitted[job.video_id] = job, future
            future.add_done_callback(finished.put)
        return bool(self._submitted)

    def _num_wanted(self) -> int:
        """Return how many tasks the scheduler should have, by the workers seen last."""
        if monotonic() - self._looked_at > _LOOK_EVERY_SECONDS:
            with self._asking():
                self._num_threads = sum(self._client.nthreads().values())
            self._looked_at = monotonic()
        return max(_FEWEST_TASKS, _TASKS_A_THREAD * self._num_threads)

    def _next(self, finished: queue.SimpleQueue[Future]) -> list[Future]:
        """Return the tasks that are done by now, one at least."""
        last_seen = monotonic()
        while True:
            if found := [future for future in self._redone if future.status not in _UNDER_WAY]:
                self._redone = [future for future in self._redone if future not in found]
                return found
            with suppress(queue.Empty):
                first = finished.get(timeout=_LOOK_EVERY_SECONDS)
                return [first, *(finished.get() for _ in range(finished.qsize()))]
            with self._asking():
                num_workers = len(self._client.nthreads())
            if num_workers:
                last_seen = monotonic()
            elif monotonic() - last_seen > NO_WORKER_SECONDS:
                raise ConfigError(
                    f"the cluster has had no worker for {NO_WORKER_SECONDS:.0f} s; finished "
                    "videos are safe: start workers and run the same command again"
                )

    @contextmanager
    def _asking(self) -> Generator[None]:
        """Tell the loss of the scheduler from all else that may go wrong with a request to it."""
        try:
            yield
        except R2TError:  # what a worker found wrong
            raise
        except (Exception, CancelledError) as error:
            gone = isinstance(error, ConnectionError | CommClosedError | TimeoutError)
            if gone or self._client.status != "running":
                raise ConfigError(_LOST) from error
            raise

    def _take(self, futures: Sequence[Future]) -> None:
        done: list[Future] = []
        for future in futures:
            status = future.status
            if status == "finished":
                done.append(future)
            elif status in _UNDER_WAY:  # done again, since a worker died that held the outcome
                self._redone.append(future)
            else:
                self._finish(future, self._reason(future))
        with self._asking():
            outcomes: list[Outcome] = self._client.gather(done)
        for future, outcome in zip(done, outcomes, strict=True):
            self._count(outcome)
            self._finish(future, outcome.failure, outcome.silence)

    def _count(self, outcome: Outcome) -> None:
        for name, seconds in outcome.seconds.items():
            self._tally.clock.add(name, outcome.num_frames, seconds)
        self._tally.num_frames += outcome.num_frames
        for message in outcome.warnings:
            warnings.warn(message, VideoWarning, stacklevel=2)

    def _reason(self, future: Future) -> str:
        """Return why a task failed that took its workers down, or whose video is gone everywhere.

        Raises what else went wrong.
        """
        if future.status != "error":
            raise ConfigError(_LOST)
        with self._asking():
            error = cast("BaseException", future.exception())
        place = self._submitted[cast("tuple[str, str]", future.key)[1]][0].place
        if isinstance(error, ConfigError) and isinstance(place, Path) and not place.exists():
            return f"{place}: there is no such file any more"
        if not isinstance(error, KilledWorker):
            raise error
        num_dead = error.allowed_failures + 1
        workers = "the worker" if num_dead == 1 else f"{num_dead} workers, one after another,"
        return f"{workers} died while extracting it"

    def _finish(self, future: Future, failure: str | None, silence: str | None = None) -> None:
        _, video_id = cast("tuple[str, str]", future.key)
        if failure is None:
            self._tally.done.append(video_id)
        else:
            self._tally.failed[video_id] = failure
        job, _ = self._submitted.pop(video_id)
        self._turns.settle(job, job.place, silence)
        future.release()
        self._tally.finish(video_id, failure)
