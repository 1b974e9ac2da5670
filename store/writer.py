"""Writing into a store: every video and every part appears whole, or not at all.

Nothing is ever written in place. A run writes into its own folder beside the store and renames
what is finished; a reader, or a machine that loses power, sees the old state or the new one.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
import uuid
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from r2t.store.annotations import Annotation
from r2t.store.errors import ConfigError, StoreError
from r2t.store.features import EmbeddingOrigin, QueryFeatures, VideoSource
from r2t.store.format import (
    PartKind,
    PartWriter,
    Publisher,
    StoreHeader,
    TokenLayout,
    VideoRow,
    node_name,
    query_columns,
    require_fitting,
    video_columns,
)
from r2t.store.quantize import Affine
from r2t.store.schema import EmbeddingSpec
from r2t.store.video_writer import VideoWriter

_INDEX_EVERY_SECONDS = 60.0


class GrowingStore(Protocol):
    """What a writer asks the store that it adds to, as opened for reading."""

    header: StoreHeader

    def refresh(self) -> bool: ...

    def is_indexed(self, video_id: str) -> bool: ...

    def video_row(self, video_id: str) -> VideoRow: ...

    def committed_digest(self, node: str) -> str | None: ...

    def query_digests(self) -> dict[str, str]: ...


class StoreWriter:
    """One run that adds videos and queries to a store; safe to call from several threads.

    Leaving the `with` block writes the index part of the videos committed so far, after an error
    too. Videos committed by a run that was killed are found by name and indexed by the next.
    """

    def __init__(self, store: GrowingStore, publisher: Publisher) -> None:
        self._store = store
        self._publisher = publisher
        self._parts = PartWriter(publisher, store.header)
        self._rows: list[VideoRow] = []
        self._indexed_at = time.monotonic()
        self._lock = threading.Lock()

    @property
    def embedding(self) -> EmbeddingSpec | None:
        """Which embeddings must come with all that is added, None if none may."""
        return self._store.header.embedding

    def __enter__(self) -> StoreWriter:
        self._publisher.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.flush()
            with self._publisher.errors():  # a run that was killed may have left it behind
                self._parts.record()
        finally:
            self._publisher.__exit__()
            self._store.refresh()

    @contextlib.contextmanager
    def video(
        self,
        video_id: str,
        *,
        num_frames: int,
        duration_seconds: float,
        frame_rate_fps: float,
        source: VideoSource | None = None,
        affine: Affine | None = None,
        embedding_from: EmbeddingOrigin = "frames",
    ) -> Generator[VideoWriter]:
        """Yield a writer for one video; commit it on a clean exit, leave nothing otherwise.

        If the video is there already, an equal one is kept and a different one is a `StoreError`.
        With `affine`, tokens come as the codes of those scales and offsets, for an int8 store.
        `embedding_from` says what the embeddings are made from, in a store that has any.
        The yielded writer's `source` may be replaced: which decoder served is known at the end.
        """
        row = VideoRow(video_id, num_frames, duration_seconds, frame_rate_fps)
        row.require_legal(self._store.header.spec)
        layout = TokenLayout.of(self._store.header.spec, num_frames)
        staged = 3 if layout.dtype.itemsize == 1 and affine is None else 1  # as float16, then codes
        self._publisher.require_room(staged * layout.num_shards * layout.shard_bytes)
        node = node_name(video_id)
        folder = (
            self._publisher.work / f"{node}-{uuid.uuid4().hex[:12]}"
        )  # threads may write the same video
        try:
            writer = VideoWriter(
                folder,
                self._store.header,
                video_id,
                num_frames,
                affine=affine,
                embedding_from=embedding_from,
            )
            writer.source = source
            yield writer
            row = row.with_source(writer.source)
            recorded = {"source": {"licence": writer.source.licence}} if writer.source else {}
            row = replace(row, digest=writer.finish(row.put_into(recorded)))
            if not self._commit(folder, f"videos/{node}", row.digest):
                row = self._store.video_row(video_id)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._add_row(row)

    @contextlib.contextmanager
    def stage(self) -> Generator[Path]:
        """Yield an empty folder to prepare in what `adopt` commits; on the store's disk, if any."""
        folder = self._publisher.work / uuid.uuid4().hex[:12]
        with self._publisher.errors():
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def adopt(self, folder: Path, row: VideoRow) -> None:
        """Commit a whole node that was prepared elsewhere and checked to be what `row` says."""
        if not self._commit(folder, f"videos/{node_name(row.video_id)}", row.digest):
            row = self._store.video_row(row.video_id)
        self._add_row(row)

    def index(self, video_id: str) -> None:
        """Give an already committed video its index row, unless it has one."""
        if not self._store.is_indexed(video_id):
            self._add_row(self._store.video_row(video_id))

    def add_queries(
        self, annotations: Sequence[Annotation], features: Sequence[QueryFeatures]
    ) -> int:
        """Add queries as one part and return how many were new.

        A query that is there already with the same content is skipped; with another content it is
        a `StoreError`, and nothing is written.
        """
        for feature in features:
            require_fitting(feature, self._store.header)
            if not np.isfinite(feature.tokens).all():
                raise ConfigError(f"{feature!r} holds NaN or infinity; nothing was written")
        if not annotations:
            return 0
        columns = query_columns(annotations, features)
        self._store.refresh()  # other runs may have added queries since
        known = self._store.query_digests()
        new: list[int] = []
        for row, (query_id, digest) in enumerate(
            zip(columns["query_id"], columns["digest"], strict=True)
        ):
            if query_id not in known:
                known[str(query_id)] = str(digest)
                new.append(row)
            elif known[query_id] != digest:
                raise StoreError(
                    f"query {query_id!r} is in {self._publisher.location} already with another "
                    "text, moments or features; give the new annotation another id, or extract "
                    "into a new store"
                )
        if new:
            if len(new) < len(annotations):
                columns = query_columns(
                    [annotations[row] for row in new], [features[row] for row in new]
                )
            self._commit_part("queries", columns)
        return len(new)

    def flush(self) -> None:
        """Write the index rows gathered so far as a part of their own."""
        with self._lock:
            rows, self._rows = self._rows, []
            self._indexed_at = time.monotonic()
        if not rows:
            return
        try:
            self._commit_part("index", video_columns(rows))
        except BaseException:
            with self._lock:
                self._rows = rows + self._rows
            raise

    def _add_row(self, row: VideoRow) -> None:
        with self._lock:
            self._rows.append(row)
            due = time.monotonic() - self._indexed_at > _INDEX_EVERY_SECONDS
        if due:
            self.flush()

    def _commit_part(self, kind: PartKind, columns: dict[str, NDArray[Any]]) -> None:
        with self._publisher.errors():
            self._parts.commit(kind, columns)
        self._store.refresh()

    def _commit(self, folder: Path, place: str, digest: str) -> bool:
        """Put a node into place; return False if an equal one, with its own row, is there."""
        with self._publisher.errors():
            if self._publisher.add(folder, place):
                return True
        target = f"{self._publisher.location}/{place}"
        existing = self._store.committed_digest(place)
        if existing is None:
            raise StoreError(
                f"{target} is there already but was never committed: a store copied in part; "
                "remove that folder and run the same command again"
            )
        if existing != digest:
            raise StoreError(
                f"{target} is there already with other features ({existing}, now {digest}): one id "
                "names two different videos; rename one"
            )
        return False
