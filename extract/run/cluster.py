"""The same extraction on a Dask cluster: one video a task, one FrozenClip a worker.

Workers read the videos and write into the store under the paths given here, so all machines must
share both. A task writes one whole video, so a worker may die at any point: its videos are tried
elsewhere, and one that takes several workers down is set aside. Dask moves tasks as pickles: only
connect to a scheduler whose users you would let run code on your machine.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import socket
import warnings
from asyncio import CancelledError
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, cast

import torch
from distributed import Client, Future, KilledWorker, SpecCluster
from distributed.comm.core import CommClosedError

from r2t.extract.config import ExtractConfig, share_of_machine
from r2t.extract.run.cluster_worker import (
    PLUGIN,
    Extractor,
    Outcome,
    extract_one,
    num_encoding_lanes,
)
from r2t.extract.run.local_cluster import local_cluster, split_device, visible_devices
from r2t.extract.run.one_video import VideoJob
from r2t.extract.run.progress import Tally
from r2t.store.errors import ConfigError, R2TError, VideoWarning
from r2t.store.feature_store import FeatureStore
from r2t.store.writer import StoreWriter

LOCAL = "local:"
_LEGAL = "give local:N with N workers, or tcp://HOST:PORT"
_LOST = (
    "the connection to the cluster's scheduler was lost; finished videos are safe: run the same "
    "command again"
)
_ADDRESS = re.compile(
    r"([a-z]+://)?(?P<host>\[[0-9a-fA-F:.%]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})/?"
)
_TASK = "extract"  # what the dashboard groups tasks by; each is ("extract", video id)
_CONNECT_SECONDS = 20.0
_NO_WORKER_SECONDS = 60.0
_LOOK_EVERY_SECONDS = 2.0


@dataclass(frozen=True)
class Cluster:
    """A connected cluster, and the arguments of `FrozenClip.load` on its workers.

    Ctrl-C reaches `local` workers too, and is the client's to answer.
    """

    client: Any  # distributed.Client, whose methods are typed as coroutines too
    clip_arguments: Mapping[str, Any]
    local: bool = False

    @property
    def num_workers(self) -> int:
        """Number of workers at this moment."""
        return len(self.client.nthreads())

    @property
    def dashboard(self) -> str | None:
        """Where a browser sees the tasks, if the scheduler serves that (it needs bokeh)."""
        services = self.client.scheduler_info()["services"]
        return str(self.client.dashboard_link) if "dashboard" in services else None


def require_cluster(address: str) -> None:
    """Raise `ConfigError` unless `open_cluster` may be able to take this address."""
    if address.startswith(LOCAL):
        _num_local(address)
    else:
        _require_answer(address)


@contextmanager
def open_cluster(address: str, clip_arguments: Mapping[str, Any]) -> Generator[Cluster]:
    """Connect to a scheduler ("tcp://host:8786"), or start "local:N" workers on this machine.

    Local workers share the machine's cores, and take its GPUs in turn unless `device` is one.
    """
    arguments = _portable(clip_arguments)
    with _quiet_distributed():
        if not address.startswith(LOCAL):
            _require_answer(address)
            with _client(address) as client:
                yield Cluster(client, arguments)
            return
        num_workers = _num_local(address)
        share = share_of_machine(num_workers)
        asked, arguments["device"] = split_device(arguments.get("device"))
        visible = visible_devices(
            num_workers,
            torch.cuda.device_count(),
            os.environ.get("CUDA_VISIBLE_DEVICES"),
            only=asked,
        )
        with local_cluster(visible, share) as cluster, _client(cluster) as client:
            yield Cluster(client, arguments, local=True)


@contextmanager
def _quiet_distributed() -> Generator[None]:
    """Silence what distributed logs of its comings and goings; what matters is raised."""
    # The client's own logger has a level of its own.
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _num_local(address: str) -> int:
    text = address.removeprefix(LOCAL)
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"cluster {address!r}: {_LEGAL}")
    return int(text)


def _require_answer(address: str) -> None:
    """Raise `ConfigError` unless something listens there; a client would try on for long."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ConfigError(f"cluster {address!r}: {_LEGAL}")
    try:
        host, port = found["host"].strip("[]"), int(found["port"])
        socket.create_connection((host, port), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(target: object, error: Exception) -> ConfigError:
    return ConfigError(
        f"cluster {target}: cannot be reached, or has no workers: {error}; start them with "
        "`dask scheduler` and `dask worker tcp://HOST:8786`"
    )


def _portable(clip_arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Make paths absolute, which mean the same in another working directory."""
    portable = dict(clip_arguments)
    for name in ("name", "pretrained"):
        given = portable.get(name)
        if given and Path(given).exists():
            portable[name] = str(Path(given).resolve())
    return portable


@contextmanager
def _client(target: str | SpecCluster) -> Generator[Client]:
    client: Client | None = None
    try:
        try:
            client = Client(target, timeout=_CONNECT_SECONDS, set_as_default=False)
            client.wait_for_workers(1, timeout=_NO_WORKER_SECONDS)
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            raise _unreachable(target, error) from error
        yield client
    finally:
        if client is not None:
            with suppress(Exception, CancelledError):  # of a scheduler that is gone
                client.close()


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
            self._store.location,
            self._store.spec,
            ignore_interrupts=self._cluster.local,
        )
        futures: list[Future] = []
        try:
            with self._asking():
                self._client.register_plugin(worker, name=PLUGIN)
                encoding_lanes = self._client.run(num_encoding_lanes)
            self._tally.clock.set_lanes(encode=sum(encoding_lanes.values()))
            finished: queue.SimpleQueue[Future] = queue.SimpleQueue()
            for job in jobs:
                portable = job
                if isinstance(job.place, Path):
                    portable = replace(job, place=job.place.absolute())
                key = (_TASK, job.video_id)
                with self._asking():
                    future = self._client.submit(extract_one, portable, key=key, pure=False)
                future.add_done_callback(finished.put)
                futures.append(future)
            for _ in jobs:
                self._take(self._next(finished))
        finally:
            with suppress(Exception, CancelledError):  # the scheduler may be what is gone
                self._client.cancel(futures)
                self._client.unregister_worker_plugin(PLUGIN)
            # A worker that died took its index rows along.
            self._store.refresh()
            for video_id in self._tally.done:
                writer.index(video_id)

    def _next(self, finished: queue.SimpleQueue[Future]) -> Future:
        last_seen = monotonic()
        while True:
            with suppress(queue.Empty):
                return finished.get(timeout=_LOOK_EVERY_SECONDS)
            with self._asking():
                num_workers = len(self._client.nthreads())
            if num_workers:
                last_seen = monotonic()
            elif monotonic() - last_seen > _NO_WORKER_SECONDS:
                raise ConfigError(
                    f"the cluster has had no worker for {_NO_WORKER_SECONDS:.0f} s; finished "
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

    def _take(self, future: Future) -> None:
        _, video_id = cast("tuple[str, str]", future.key)
        failure: str | None = None
        if future.status == "finished":
            with self._asking():
                outcome: Outcome = future.result()
            for name, seconds in outcome.seconds.items():
                self._tally.clock.add(name, outcome.num_frames, seconds)
            self._tally.num_frames += outcome.num_frames
            for message in outcome.warnings:
                warnings.warn(message, VideoWarning, stacklevel=2)
            failure = outcome.failure
        elif future.status == "error":
            with self._asking():
                error = cast("BaseException", future.exception())
            if not isinstance(error, KilledWorker):
                raise error
            num_dead = error.allowed_failures + 1
            workers = "the worker" if num_dead == 1 else f"{num_dead} workers, one after another,"
            failure = f"{workers} died while extracting it"
        else:
            raise ConfigError(_LOST)
        if failure is None:
            self._tally.done.append(video_id)
        else:
            self._tally.failed[video_id] = failure
        future.release()
        self._tally.finish(video_id, failure)
