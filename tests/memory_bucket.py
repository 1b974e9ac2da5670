"""A bucket in the memory of this process, whose clients can be killed at any request."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from obstore.store import MemoryStore

from r2t.store.publish import beside, bucket, conditions, places
from r2t.store.sources import Bucket, remote

URL = "s3://memory/feats.zarr"


class Killed(BaseException):
    """What a client meets whose process is no more."""


class MemoryService:
    """The objects, and how many requests the clients have made and may still make."""

    def __init__(self) -> None:
        self.objects = MemoryStore()
        self.num_requests = 0
        self.before: Callable[[int], None] = lambda number: None
        self.after: Callable[[int], None] = lambda number: None
        self._lock = threading.Lock()

    def connect(self, url: str) -> Bucket:
        folder = url.removeprefix("s3://memory").strip("/")
        return _Client(self, url.rstrip("/"), folder)

    def ask(self, request: Callable[[], Any]) -> Any:
        with self._lock:
            number, self.num_requests = self.num_requests, self.num_requests + 1
        self.before(number)
        answer = request()
        self.after(number)
        return answer

    def kill(self, at: int, *, is_done: bool) -> None:
        """Let every request from that one on fail; the first may be done unheard of."""

        def refuse(number: int) -> None:
            if number >= at + is_done:
                raise Killed

        def lose(number: int) -> None:
            if number >= at:
                raise Killed

        self.num_requests = 0
        self.before, self.after = refuse, lose

    def revive(self) -> None:
        self.before = self.after = lambda number: None
        self.num_requests = 0


class _Client(Bucket):
    def __init__(self, service: MemoryService, location: str, folder: str) -> None:
        super().__init__(location, service.objects, folder)  # pyright: ignore[reportArgumentType]
        self._service = service

    def _ask(self, name: str, request: Callable[[], Any], verb: str = "read") -> Any:
        return self._service.ask(lambda: super(_Client, self)._ask(name, request, verb))


def use_memory(monkeypatch: pytest.MonkeyPatch) -> MemoryService:
    """Let every bucket be one in memory."""
    service = MemoryService()
    for module in (beside, bucket, places, remote):
        monkeypatch.setattr(module, "connect", service.connect)
    monkeypatch.setattr(conditions, "_proven_buckets", {"s3://memory"})
    return service
