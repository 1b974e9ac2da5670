"""Whose turn it is to be fetched: servers take turns, and one that answers nobody is left.

The videos of a server are fetched in no order. So those that fail one after another are a fair
sample of them, dead links at the head of a list stand in nobody's way, and another run draws
anew.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from r2t.extract.fetch.remote_video import RemoteVideo, VideoLocation, server_name

MOST_SILENT = 10
"""Videos of a server that fail for want of an answer, one after another, before it is left."""
MOST_SILENT_IN_ALL = 30
"""The same of all servers: it is the network, unless one that has answered before does so again."""
ALL_SERVERS = "all servers"

_Job = TypeVar("_Job")


@dataclass
class _Server(Generic[_Job]):
    name: str
    jobs: list[tuple[_Job, RemoteVideo]] = field(default_factory=list)  # pyright: ignore[reportUnknownVariableType]
    silent: list[_Job] = field(default_factory=list)  # pyright: ignore[reportUnknownVariableType]
    is_waiting: bool = False  # for its turn
    has_answered: bool = False

    @property
    def is_in_doubt(self) -> bool:
        return len(self.silent) >= MOST_SILENT


@dataclass(frozen=True)
class LeftVideos(Generic[_Job]):
    """The videos of a server that are left for another run: those that failed last, and the rest.

    `reason` is why one of them could not be fetched.
    """

    server: str
    jobs: tuple[_Job, ...]
    reason: str


class Turns(Generic[_Job]):
    """Hands out jobs with their videos; whoever takes one says by `settle` what became of it.

    A server gets no more turns while the last `MOST_SILENT` of its videos that are settled had no
    answer: not before one of those under way has. The same is so of all servers together, once one
    that had answered before is among them, or there is none: dead ones alone are not the network.
    Videos on this machine come first, in order. Not safe to use from several threads.
    """

    def __init__(self, jobs: Iterable[tuple[_Job, VideoLocation]]) -> None:
        self.num_under_way = 0
        self._local: deque[tuple[_Job, Path]] = deque()
        self._servers: dict[str, _Server[_Job]] = {}
        self._num_silent = 0  # since the last answer
        self._has_lost_one = False  # that had answered before, since then
        self._reasons: dict[str, str] = {}
        for job, place in jobs:
            if isinstance(place, Path):
                self._local.append((job, place))
            else:
                name = server_name(place.url)
                self._servers.setdefault(name, _Server(name)).jobs.append((job, place))
        for server in self._servers.values():
            random.shuffle(server.jobs)
        self.num_remote = sum(len(server.jobs) for server in self._servers.values())
        self._waiting: deque[_Server[_Job]] = deque()
        order = list(self._servers.values())
        random.shuffle(order)
        for server in order:
            self._queue(server)

    def take(self) -> tuple[_Job, VideoLocation] | None:
        """Return the next job; None if there is none before one of those under way is settled."""
        if self._local:
            self.num_under_way += 1
            return self._local.popleft()
        if not self._waiting or self._is_in_doubt:
            return None
        self.num_under_way += 1
        server = self._waiting[0]
        if self._most_are_silent:
            server = next(each for each in self._waiting if each.has_answered)
        self._waiting.remove(server)
        server.is_waiting = False
        found = server.jobs.pop()
        self._queue(server)
        return found

    def settle(self, job: _Job, place: VideoLocation, silence: str | None = None) -> None:
        """Say that a job is not under way any more, and why no server answered, if none did."""
        self.num_under_way -= 1
        if isinstance(place, Path):
            return
        server = self._servers[server_name(place.url)]
        if silence is None:
            server.has_answered = True
            server.silent.clear()
            self._num_silent = 0
            self._has_lost_one = False
            self._queue(server)
            return
        server.silent.append(job)
        self._num_silent += 1
        self._has_lost_one |= server.has_answered
        self._reasons[server.name] = silence
        if server.is_in_doubt and server.is_waiting:
            self._waiting.remove(server)
            server.is_waiting = False

    def left(self) -> list[LeftVideos[_Job]]:
        """Return what has to be left, when nothing is under way any more.

        Where no server has answered at all, that is all, however few there are.
        """
        reason = next(reversed(self._reasons.values()), "")
        servers = self._servers.values()
        if self._most_are_silent:
            silent = [job for server in servers for job in server.silent]
            rest = [job for server in servers for job, _ in server.jobs]
            return [LeftVideos(ALL_SERVERS, (*silent, *rest), reason)]
        is_cut_off = not any(each.has_answered for each in servers)
        return [
            LeftVideos(
                server.name,
                (*server.silent, *(job for job, _ in server.jobs)),
                self._reasons[server.name],
            )
            for server in servers
            if server.is_in_doubt or (is_cut_off and server.silent)
        ]

    @property
    def _most_are_silent(self) -> bool:
        return self._num_silent >= MOST_SILENT_IN_ALL

    @property
    def _is_in_doubt(self) -> bool:
        if not self._most_are_silent:
            return False
        return self._has_lost_one or not any(each.has_answered for each in self._waiting)

    def _queue(self, server: _Server[_Job]) -> None:
        if server.jobs and not server.is_waiting and not server.is_in_doubt:
            self._waiting.append(server)
            server.is_waiting = True
