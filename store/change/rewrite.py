"""Replacing parts: what a part says is changed by a new part that stands in for it.

A rename commits the new part and, with it, puts the old ones out of force, so that a reader sees
the rows before or the rows after, never both. Rows that stay as they are may be in two parts for
a while: equal duplicates count once. The old parts are dropped later, by a rename each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from pathlib import Path

from r2t.store.annotations import Annotation
from r2t.store.check import live_parts, open_parts
from r2t.store.features import QueryFeatures
from r2t.store.format import (
    QUERIES_PER_PART,
    Columns,
    Part,
    PartWriter,
    VideoRow,
    query_columns,
    read_query_rows,
    require_fitting,
    video_columns,
)
from r2t.store.publish import open_publisher
from r2t.store.sources import StoreRoot, open_root

QueryRow = tuple[Annotation, QueryFeatures]


def replace_index(parts: PartWriter, rows: Sequence[VideoRow], replaces: Collection[str]) -> None:
    """Put one index part in the place of others."""
    parts.commit("index", video_columns(rows), replaces)


def replace_queries(
    parts: PartWriter,
    kept: Iterable[QueryRow],
    changed: Sequence[QueryRow],
    replaces: Collection[str],
) -> None:
    """Put new parts in the place of others: rows that are `kept` as they were, and `changed` ones.

    Kept rows may be committed ahead of the part that replaces, since they have equals; changed
    ones come with it. Without any rows the old parts are dropped, one by one.
    """
    rows = iter(kept)
    batch = list(islice(rows, QUERIES_PER_PART))
    while len(batch) == QUERIES_PER_PART:
        following = list(islice(rows, QUERIES_PER_PART))
        if not following:
            break
        parts.commit("queries", _columns(batch))
        batch = following
    batch += changed
    if batch:
        parts.commit("queries", _columns(batch), replaces)
    else:
        parts.drop("queries", replaces)


def change_queries(location: str | Path, changed: Sequence[QueryRow]) -> None:
    """Put other content in the place of stored queries, in one rename.

    The parts that held them stay on the disk, so that readers who opened the store before keep
    what they saw; `repair` removes them.
    """
    root = open_root(location)
    publisher = open_publisher(root, "change it")
    root.header.require_current(root.location)
    for _, features in changed:
        require_fitting(features, root.header)
    ids = {annotation.query_id for annotation, _ in changed}
    with publisher.errors(), publisher.maintenance(), publisher:
        replace_rows(PartWriter(publisher, root.header), root, ids, changed)


def replace_rows(
    writer: PartWriter, root: StoreRoot, ids: Collection[str], changed: Sequence[QueryRow] = ()
) -> list[str]:
    """Put new parts in the place of those that hold some queries: without these, with `changed`.

    Returns the names of the parts that are out of force now, and may still be there.
    """
    live, replaced = live_parts(root, "queries")
    affected: list[tuple[Part, list[int]]] = []
    for part in open_parts(root, "queries", live):
        query_ids = part.columns["query_id"].tolist()
        kept = [row for row, query_id in enumerate(query_ids) if query_id not in ids]
        if len(kept) < len(query_ids):
            affected.append((part, kept))
    rows = (query for part, kept in affected for query in read_query_rows(part, kept))
    # What is out of force already goes first: it would count again without what replaces it.
    names = [*replaced, *(part.name for part, _ in affected)]
    replace_queries(writer, rows, changed, names)
    return names


def _columns(rows: Sequence[QueryRow]) -> Columns:
    return query_columns([annotation for annotation, _ in rows], [each for _, each in rows])
