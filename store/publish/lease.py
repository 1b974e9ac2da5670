"""A lock on a store in a bucket, for commands that replace parts: an object beside the store."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import uuid
from collections.abc import Callable

from r2t.store.errors import StoreError
from r2t.store.publish.clock import Moment
from r2t.store.sources import Bucket, StoredObject
from r2t.store.work_folders import SILENT_SECONDS

_KEY = "change.json"
_RENEW_SECONDS = 3600.0


class Lease:
    """Held from entering to leaving it; one that was not renewed for a day no longer counts."""

    def __init__(self, beside: Bucket, store: str, server_time: Callable[[], float]) -> None:
        self._beside = beside
        self._store = store
        self._server_time = server_time
        self._seen: StoredObject | None = None
        self._renewed_at = Moment.now()

    def __enter__(self) -> None:
        content, began = self._content(), Moment.now()
        if not self._beside.create(_KEY, content):
            found = self._beside.read_object(_KEY)
            if found is not None and found[0] != content:
                self._require_dead(*found)
                self._beside.replace(_KEY, content, found[1])
        self._take(content, began)  # which reads back who was first, even if an answer was lost

    def __exit__(self, *_: object) -> None:
        self._seen = None
        found = self._beside.read_object(_KEY)
        if found is not None and found[0] == self._own:
            self._beside.delete([_KEY])

    def renew(self) -> None:
        """Show, if this is held, that its owner is at work; raise `StoreError` if it was lost."""
        if self._seen is None or self._renewed_at.seconds_ago() < _RENEW_SECONDS:
            return
        content, began = self._content(), Moment.now()
        self._beside.replace(_KEY, content, self._seen)
        self._take(content, began)

    def _take(self, content: bytes, began: Moment) -> None:
        found = self._beside.read_object(_KEY)
        if found is None or found[0] != content:
            raise self._refusal("")
        self._own, self._seen = content, found[1]
        self._renewed_at = began

    def _content(self) -> bytes:
        who = {"machine": socket.gethostname(), "process": os.getpid(), "id": uuid.uuid4().hex}
        return json.dumps(who).encode()

    def _require_dead(self, content: bytes, seen: StoredObject) -> None:
        if self._server_time() - seen.changed.timestamp() > SILENT_SECONDS:
            return
        with contextlib.suppress(ValueError, LookupError, TypeError):
            who = json.loads(content)
            raise self._refusal(f" (process {who['process']} on {who['machine']})")
        raise self._refusal("")

    def _refusal(self, who: str) -> StoreError:
        return StoreError(
            f"another command{who} is repairing or changing {self._store}; wait until it is done. "
            f"If it was killed, delete {self._beside.location}/{_KEY}; after a day it does not "
            "count any more"
        )
