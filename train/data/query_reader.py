"""Queries of a store, kept in memory once they have been read.

A training asks for each of them in every pass. Finding one in a store takes about a millisecond of
a processor's time, and copying it ten microseconds.
"""

from __future__ import annotations

import threading

import r2t.store
from r2t.store.features import QueryFeatures

MOST_BYTES = 10**9  # QVHighlights' queries take half of that


class QueryReader:
    """Reads a store's queries, and keeps up to `most_bytes` of them; threads may share it."""

    def __init__(self, store: r2t.store.FeatureStore, most_bytes: int = MOST_BYTES) -> None:
        self._store = store
        self._free_bytes = most_bytes
        self._kept: dict[str, QueryFeatures] = {}
        self._lock = threading.Lock()

    def read(self, query_id: str) -> QueryFeatures:
        """Return what the store has of a query; its arrays must not be written to."""
        found = self._kept.get(query_id)
        if found is None:
            found = self._store.read_query(query_id)
            with self._lock:
                if found.tokens.nbytes <= self._free_bytes and query_id not in self._kept:
                    self._free_bytes -= found.tokens.nbytes
                    self._kept[query_id] = found
        return found
