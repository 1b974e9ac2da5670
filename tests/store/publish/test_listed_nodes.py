"""Nodes as a listing passes them by."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from r2t.store.publish.listed_nodes import nodes_in
from r2t.store.sources import Bucket

NAMES = ["a", "a b", "a-b", "a.b", "a0", "b", "é"]


class Listing:
    """What obstore's stores offer of a listing, page by page."""

    def __init__(self, paths: Iterator[str] | list[str]) -> None:
        self._paths = paths

    def list(self, prefix: str | None) -> Iterator[list[dict[str, Any]]]:
        for number, path in enumerate(self._paths):
            assert prefix is None or path.startswith(prefix)
            changed = datetime.fromtimestamp(number + 1, UTC)
            page = {"path": path, "size": 7, "last_modified": changed}
            yield [{**page, "e_tag": None, "version": None}]


def bucket_of(paths: Iterator[str] | list[str]) -> Bucket:
    return Bucket("s3://here/feats.zarr", Listing(paths), "")  # pyright: ignore[reportArgumentType]


def keys_of(names: list[str]) -> list[str]:
    """Return keys of nodes, the last of which has no metadata."""
    files = ("embedding/c/0/0", "tokens/c/0/0/0/0", "zarr.json")
    keys = [f"videos/{name}/{file}" for name in names for file in files]
    return ["videos/zarr.json", *keys[:-1]]


@pytest.mark.parametrize("order", ["keys", "folders", "none"])
def test_in_whatever_order_a_service_lists(order: str) -> None:
    """Azure with folders lists what is in `a` before `a-b`; others by the letters of the keys."""
    keys = sorted(keys_of(NAMES))
    if order == "folders":
        keys.sort(key=lambda key: key.split("/"))
    if order == "none":
        random.Random(0).shuffle(keys)
    found = nodes_in(bucket_of(keys), "videos", lambda node: True)
    assert [node.name for node in found] == NAMES
    assert {node.num_objects for node in found[:-1]} == {3}
    assert [node.document_bytes for node in found] == [*[7] * (len(NAMES) - 1), None]
    newest = {
        name: 1.0 + max(at for at, key in enumerate(keys) if f"/{name}/" in key) for name in NAMES
    }
    if order != "none":
        assert {node.name: node.changed for node in found} == newest
    assert [
        node.name
        for node in nodes_in(bucket_of(keys), "videos", lambda node: node.document_bytes is None)
    ] == ["é"]


def test_memory_is_that_of_the_nodes_asked_for() -> None:
    """12,000 objects would be 6 MB."""

    def keys() -> Iterator[str]:
        for number in range(4000):
            name = f"v{number:05}"
            yield f"videos/{name}/tokens/c/0/0/0/0"
            yield f"videos/{name}/tokens/zarr.json"
            if number != 2000:
                yield f"videos/{name}/zarr.json"

    tracemalloc.start()
    try:
        found = nodes_in(bucket_of(keys()), "videos", lambda node: node.document_bytes is None)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [node.name for node in found] == ["v02000"]
    assert most_bytes < 500_000
