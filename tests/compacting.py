"""Joining a store's parts in a process of its own, to be killed while it does."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection

from r2t.store.change import compact
from r2t.store.change.compact import compact_store


def join_in_process(
    location: str, most_rows: int, environment: dict[str, str], told: Connection
) -> None:
    """Tell when it begins, and when it is done."""
    os.environ.update(environment)
    compact.MAX_ROWS = {"index": most_rows, "queries": most_rows}
    told.send("begun")
    compact_store(location)
    told.send("done")
