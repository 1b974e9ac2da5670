"""Replacing parts: what a part says is changed by a new part that stands in for it.

A rename commits the new part and, with it, puts the old ones out of force, so that a reader sees
the rows before or the rows after, never both. Rows that stay as they are may be in two parts for
a while: equal duplicates count once. The old parts are dropped later, by a rename each.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from pathlib import Path

from r2t.store.annotations import Annotation
from r2t.store.check import live_parts, open_part
from r2t.store.files import commit_folder
from r2t.store.format import (
    QUERIES_PER_PART,
    Columns,
    Part,
    PartKind,
    VideoRow,
    new_part_name,
    query_columns,
    read_query_rows,
    storage_errors,
    video_columns,
    write_part,
)
from r2t.store.schema import QueryFeatures
from r2t.store.sources import open_root
from r2t.store.work_folders import WorkFolder, maintenance

QueryRow = tuple[Annotation, QueryFeatures]


def commit_part(
    root: Path, work: WorkFolder, kind: PartKind, columns: Columns, replaces: Collection[str] = ()
) -> None:
    """Write a part and rename it into place, where it stands in for those it replaces."""
    name = new_part_name(replaces)
    folder = work.path / f"{kind}-{name}"
    write_part(folder, columns, replaces)
    commit_folder(folder, root / kind / name)


def replace_index(
    root: Path, work: WorkFolder, rows: Sequence[VideoRow], replaces: Collection[str]
) -> None:
    """Put one index part in the place of others."""
    commit_part(root, work, "index", video_columns(rows), replaces)


def replace_queries(
    root: Path,
    work: WorkFolder,
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
        commit_part(root, work, "queries", _columns(batch))
        batch = following
    batch += changed
    if batch:
        commit_part(root, work, "queries", _columns(batch), replaces)
    else:
        drop_parts(root, work, "queries", replaces)


def change_queries(location: str | Path, changed: Sequence[QueryRow]) -> None:
    """Put other content in the place of stored queries, in one rename.

    The parts that held them stay on the disk, so that readers who opened the store before keep
    what they saw; `repair` removes them.
    """
    root = open_root(location)
    path = root.require_path("change it")
    ids = {annotation.query_id for annotation, _ in changed}
    with storage_errors(path), maintenance(path), WorkFolder(path) as work:
        live, replaced = live_parts(root, "queries")
        affected: list[tuple[Part, list[int]]] = []
        for part in (open_part(root, "queries", name) for name in live):
            query_ids = part.columns["query_id"].tolist()
            kept = [row for row, query_id in enumerate(query_ids) if query_id not in ids]
            if len(kept) < len(query_ids):
                affected.append((part, kept))
        rows = (query for part, kept in affected for query in read_query_rows(part, kept))
        names = [part.name for part, _ in affected]
        replace_queries(path, work, rows, changed, [*names, *replaced])


def drop_parts(root: Path, work: WorkFolder, kind: PartKind, names: Iterable[str]) -> None:
    """Take parts out of a store, each by a rename, and remove them."""
    for name in names:
        folder = work.path / f"dropped-{name}"
        with contextlib.suppress(FileNotFoundError):  # one that was dropped already
            os.rename(root / kind / name, folder)
            shutil.rmtree(folder)


def _columns(rows: Sequence[QueryRow]) -> Columns:
    return query_columns([annotation for annotation, _ in rows], [each for _, each in rows])
