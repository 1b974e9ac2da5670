"""The same extraction on a Dask cluster: one video a task, one FrozenClip a worker.

Workers read the videos and write into the store under the paths given here, so all machines must
share both. A task writes one whole video, so a worker may die at any point: its videos are tried
elsewhere, and one that takes several workers down is set aside. Dask moves tasks as pickles: only
connect to a scheduler whose users you would let run code on your machine.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from asyncio import CancelledError
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from distributed import Client, SpecCluster

from r2t.extract.config import share_of_machine
from r2t.extract.run.local_cluster import local_cluster, split_device, visible_devices
from r2t.store.errors import ConfigError

LOCAL = "local:"
_LEGAL = "give local:N with N workers, or tcp://HOST:PORT"
_ADDRESS = re.compile(
    r"([a-z]+://)?(?P<host>\[[0-9a-fA-F:.%]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})/?"
)
_CONNECT_SECONDS = 20.0
NO_WORKER_SECONDS = 60.0


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
            client.wait_for_workers(1, timeout=NO_WORKER_SECONDS)
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            raise _unreachable(target, error) from error
        yield client
    finally:
        if client is not None:
            with suppress(Exception, CancelledError):  # of a scheduler that is gone
                client.close()
