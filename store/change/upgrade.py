"""Upgrade a store of format version 1 to version 2, in place, without rewriting its tokens.

Until the root's metadata is replaced, every r2t, old or new, reads the store as version 1: what
version 2 adds lies beside it. A video is checked against its index row and its digest before its
attributes are sealed, so that damage is never sealed. After an interruption the videos that were
made ready stay so, and the same command continues with the others.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from r2t.store.change.merge import read_queries
from r2t.store.change.rewrite import QueryRow
from r2t.store.change.upgrade_plan import require_folder, require_room
from r2t.store.change.upgraded_video import Embedder, VideoUpgrade, discard
from r2t.store.check import OpenedStore, check_store, part_names
from r2t.store.empty_store import write_groups
from r2t.store.errors import CorruptFeatureError, StoreError
from r2t.store.feature_store import FeatureStore
from r2t.store.files import commit_folder, write_whole
from r2t.store.format import (
    KINDS,
    QUERIES_PER_PART,
    PartWriter,
    StoreHeader,
    query_columns,
    storage_errors,
    video_columns,
)
from r2t.store.parallel import map_threads
from r2t.store.progress import OnProgress, no_progress
from r2t.store.publish import LocalPublisher
from r2t.store.schema import FORMAT_VERSION, EmbeddingSpec
from r2t.store.sources import StoreRoot, open_root
from r2t.store.wording import named
from r2t.store.work_folders import WorkFolder, maintenance, remove_dead_work, work_folders


@dataclass(frozen=True)
class UpgradeReport:
    """What a store is after an upgrade; `was_current`: it was so before, and nothing was done.

    `left_over` are parts of format version 1 that an earlier upgrade had not yet removed.
    """

    was_current: bool
    embedding: EmbeddingSpec | None
    num_videos: int
    num_queries: int
    left_over: tuple[str, ...] = ()


def upgrade_store(
    location: str | Path,
    embedder: Embedder | None,
    *,
    num_threads: int | None = None,
    on_video: OnProgress = no_progress,
) -> UpgradeReport:
    """Bring a store on this machine to the present format version.

    `embedder` makes embeddings of the stored tokens, by the CLIP that these were made with; None
    leaves the store without. Programs that have the store open must open it again.

    Raises:
        StoreError: if the store is no folder here, somebody is writing into it, or the disk has no
            room; nothing is changed then.
        CorruptFeatureError: if something in it is damaged. The store still has the old version
            then, though some of its videos may be ready for the new one.
    """
    root = open_root(location)
    path = require_folder(root)
    with storage_errors(path), maintenance(path):
        root = open_root(location)
        if root.header.format_version == FORMAT_VERSION:
            return _finished(root, path)
        _require_quiet(path)
        require_room(root, path, None if embedder is None else embedder.spec)
        _require_sound(root, path)
        with WorkFolder(path) as work:
            upgrade = _Upgrade(root, path, work.path, embedder)
            upgrade.make_videos_ready(num_threads, on_video)
            return upgrade.switch()


class _Upgrade:
    """One upgrade of a store of format version 1, under its lock; `work` is on its disk."""

    def __init__(self, root: StoreRoot, path: Path, work: Path, embedder: Embedder | None) -> None:
        self._root = root
        self._path = path
        self._work = work
        self._embedder = embedder
        self._store = FeatureStore(root)
        self._rows = self._store.video_rows()
        self._listed = _listing(root, path)

    def make_videos_ready(self, num_threads: int | None, on_video: OnProgress) -> None:
        """Give each video what version 2 has beside version 1; raise if any is damaged."""
        upgrade = VideoUpgrade(self._root, self._path, self._work, self._store, self._embedder)
        reasons = map_threads(
            upgrade.make_ready, self._rows, num_threads=num_threads, on_done=on_video
        )
        damaged = [
            f"{row.video_id}: {reason}"
            for row, reason in zip(self._rows, reasons, strict=True)
            if reason is not None
        ]
        if damaged:
            raise _damaged(self._path, damaged)

    def switch(self) -> UpgradeReport:
        """Write the parts anew, make the store one of version 2, and remove the old parts."""
        spec = None if self._embedder is None else self._embedder.spec
        header = StoreHeader(
            spec=self._root.spec,
            provenance={**self._root.header.provenance, "upgraded_from_format": 1},
            embedding=spec,
        )
        stage = self._work / "upgraded"
        write_groups(stage, header)
        num_queries = self._write_parts(PartWriter(LocalPublisher(stage, self._work), header))
        self._require_unchanged()
        discard(self._path / "parts", self._work)
        commit_folder(stage / "parts", self._path / "parts")
        _rename_root(self._path, stage, self._work)
        _clear(self._path, self._work)
        return UpgradeReport(
            was_current=False,
            embedding=spec,
            num_videos=len(self._rows),
            num_queries=num_queries,
        )

    def _write_parts(self, parts: PartWriter) -> int:
        if self._rows:
            parts.commit("index", video_columns(self._rows))
        failures: dict[str, str] = {}
        rows = self._embedded(read_queries(self._store, failures))
        num_queries = 0
        while batch := list(islice(rows, QUERIES_PER_PART)):
            annotations, features = [each for each, _ in batch], [each for _, each in batch]
            parts.commit("queries", query_columns(annotations, features))
            num_queries += len(batch)
        if failures:
            raise _damaged(self._path, list(failures.values()))
        return num_queries

    def _embedded(self, rows: Iterable[QueryRow]) -> Iterator[QueryRow]:
        for annotation, features in rows:
            embedding = None if self._embedder is None else self._embedder.embed(features)
            yield annotation, dataclasses.replace(features, embedding=embedding)

    def _require_unchanged(self) -> None:
        _require_quiet(self._path, but=self._work)
        if _listing(self._root, self._path) != self._listed:
            raise StoreError(
                f"{self._path} was added to while it was upgraded; run the same command again"
            )


def _finished(root: StoreRoot, path: Path) -> UpgradeReport:
    """Remove what an upgrade had not yet removed when it was killed."""
    with suppress(OSError):  # what cannot be cleared stays
        remove_dead_work(path, unasked=True)
    left = [name for name in KINDS if (path / name).exists()]
    if left:
        with WorkFolder(path) as work:
            _clear(path, work.path)
    store = FeatureStore(root)
    return UpgradeReport(
        was_current=not left,
        embedding=store.embedding,
        num_videos=len(store),
        num_queries=len(store.queries),
        left_over=tuple(left),
    )


def _require_quiet(path: Path, but: Path | None = None) -> None:
    """Raise `StoreError` if a process is writing into the store, other than in the folder `but`."""
    live = [folder for folder, alive in work_folders(path).items() if alive and folder != but]
    if live:
        raise StoreError(
            f"a run is writing into {path} (in {', '.join(map(str, live))}); upgrade the store "
            "when it has ended"
        )


def _require_sound(root: StoreRoot, path: Path) -> None:
    """Raise `CorruptFeatureError` if anything but the tokens' bytes, read later, is damaged."""
    faults = check_store(OpenedStore(root), quick=True).faults()
    if damage := [str(fault) for fault in faults if fault.kind != "left-over"]:
        raise _damaged(path, damage)


def _damaged(path: Path, faults: Sequence[str]) -> CorruptFeatureError:
    return CorruptFeatureError(
        f"{path} was not upgraded, because it is damaged: {named(faults)}. Run `r2t store repair "
        f"{path}`, then upgrade what is left"
    )


def _listing(root: StoreRoot, path: Path) -> list[list[str]]:
    """Return the names of all videos and parts that are there now."""
    return [sorted(os.listdir(path / "videos")), *(part_names(root, kind) for kind in KINDS)]


def _rename_root(path: Path, stage: Path, work: Path) -> None:
    """Take the header of a staged store: from here on the store is one of version 2."""
    header = json.loads((stage / "zarr.json").read_bytes())["attributes"]["r2t"]
    metadata = json.loads((path / "zarr.json").read_bytes())
    metadata["attributes"]["r2t"] = header
    write_whole(path / "zarr.json", json.dumps(metadata, indent=2), beside=work)


def _clear(path: Path, work: Path) -> None:
    """Remove the parts of format version 1, which no reader of version 2 looks at."""
    for kind in KINDS:
        discard(path / kind, work)
