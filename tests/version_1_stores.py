"""Stores of format version 1, which nothing writes any more, made from those of today."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from damaged_stores import edit
from features import columns

from r2t.store import FeatureStore
from r2t.store.format.nodes import open_group
from r2t.store.format.part_writer import PartWriter
from r2t.store.format.parts import KINDS
from r2t.store.format.query_rows import query_columns
from r2t.store.format.video_rows import video_columns
from r2t.store.publish.local import LocalPublisher
from r2t.store.schema import SINCE_VERSION_2
from r2t.store.work_folders import WorkFolder


def make_version_1(path: Path) -> None:
    """Turn a store without embeddings into what the last r2t of format version 1 would write."""
    store = FeatureStore.open(path)
    rows, content = store.video_rows(), store.content_digest()
    queries = [(each, store.read_query(each.query_id)) for each in store.annotations()]
    shutil.rmtree(path / "parts")
    for kind in KINDS:
        open_group(str(path / kind), "w-")
    with WorkFolder(path) as work:
        header = dataclasses.replace(store.header, format_version=1)
        parts = PartWriter(LocalPublisher(path, work.path), header)
        parts.commit("index", video_columns(rows))
        parts.commit("queries", query_columns(*columns(*queries)))
    for file in path.glob("videos/*/zarr.json"):
        edit(file, lambda node: node["attributes"].pop("attributes_digest"))

    def set_header(node: dict[str, Any]) -> None:
        header = dataclasses.replace(store.header, format_version=1).to_dict()
        for name in SINCE_VERSION_2:
            header["identity"].pop(name)
        node["attributes"]["r2t"] = header

    edit(path / "zarr.json", set_header)
    assert FeatureStore.open(path).content_digest() == content
