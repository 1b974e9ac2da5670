"""The feature store: a Zarr v3 group that says what it holds and can prove it."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray

from r2t.store.annotations import Annotation
from r2t.store.content import StoreContent
from r2t.store.empty_store import make_empty_store
from r2t.store.errors import (
    ConfigError,
    CorruptFeatureError,
    FeatureNotFoundError,
    SpecMismatchError,
)
from r2t.store.format import (
    ANNOTATION_COLUMNS,
    INDEX_COLUMNS,
    Part,
    PartReader,
    VideoRow,
    annotation_at,
    attributes_of,
    damage,
    find_node,
    has_only_finite,
    node_name,
    query_features_at,
    require_fitting,
    rows_of_columns,
)
from r2t.store.html import html_table
from r2t.store.legal import require_embedding
from r2t.store.publish import open_publisher, publisher_at
from r2t.store.schema import (
    EmbeddingSpec,
    FeatureSpec,
    FrameSource,
    QueryFeatures,
    VideoFeatures,
)
from r2t.store.sources import ByteCache, StoreRoot, ZippedFolder, ZipSet, open_root
from r2t.store.video_reader import (
    StoredVideo,
    locate_video_node,
    read_video_embedding,
    video_record,
)
from r2t.store.wording import counted, how_to_install
from r2t.store.writer import StoreWriter

if TYPE_CHECKING:
    import pandas as pd

    from r2t.store.xarray_view import VideoDatasets

_P = ParamSpec("_P")
_T = TypeVar("_T")
_ALL = slice(None)
_QUERY_FIELDS = (
    "query_id",
    "video_id",
    "text",
    "split",
    "domain",
    "duration_seconds",
    "num_tokens",
    "num_moments",
    "digest",
)


def _of_parts(
    read: Callable[Concatenate[FeatureStore, _P], _T],
) -> Callable[Concatenate[FeatureStore, _P], _T]:
    """Let a method that reads columns on demand look again if their part was replaced meanwhile."""

    @functools.wraps(read)
    def again(store: FeatureStore, *arguments: _P.args, **options: _P.kwargs) -> _T:
        try:
            return read(store, *arguments, **options)
        except CorruptFeatureError:
            if not store.refresh():
                raise
            return read(store, *arguments, **options)

    return again


class FeatureStore:
    """CLIP features of videos and queries, open for reading; `writer()` adds to a local store.

    Opening reads the ids and the lengths of the videos and the ids of the queries, and never lists
    videos: a video is looked up by its name. All else is read when it is asked for.
    """

    def __init__(self, root: StoreRoot) -> None:
        """Use `open` or `create` instead."""
        self.location = root.location
        self.header = root.header
        self.spec = root.header.spec
        self.embedding = root.header.embedding
        self.provenance = root.header.provenance
        self._group = root.group
        self._root = root.path
        self._opened = root
        self._lock = threading.Lock()
        self._part_paths: tuple[str, ...] = ()
        self._parts = PartReader(root.group, root.location, root.header.format_version)
        self.refresh()

    @classmethod
    def open(cls, location: str | Path, cache: ByteCache | None = None) -> FeatureStore:
        """Open a store for reading: a folder or a zip on this machine, or a URL.

        Buckets (`s3://`, `gs://`, `az://`, `abfs://`) need the extra `cloud`, `https://` needs the
        extra `http`, and any other protocol of fsspec its own package. Over http(s) a server must
        support ranges, and for a folder of format version 1 list folders, too (nginx: `autoindex
        on`). A zip is named by its suffix or as `zip::URL`. `cache` keeps tokens of a store that is
        not on this machine.

        Raises:
            StoreError: if there is no store, or one of another format version.
            ServerError: if a server fails; a `StoreError`, too.
            CorruptFeatureError: if what is read of the index or the queries is damaged.
        """
        return cls(open_root(location, cache))

    @classmethod
    def create(
        cls,
        path: str | Path,
        spec: FeatureSpec,
        provenance: Mapping[str, Any] | None = None,
        *,
        embedding: EmbeddingSpec | None = None,
    ) -> FeatureStore:
        """Make a store, or open the one that is there if it was made with the same settings.

        With `embedding`, every video and query of a new store has one; one that is there stays as
        it was made, with or without.

        Raises:
            SpecMismatchError: if the store there has another spec; it names the fields that differ.
            StoreError: if something else is at `path`, or it is not on a local disk, or it has an
                older format version, which is only read.
        """
        publisher = publisher_at(path)
        if not publisher.exists():
            make_empty_store(publisher, spec, provenance or {}, embedding)
        store = cls.open(path)
        store.spec.require_equal(
            spec,
            action=f"add to {path}, which was made with other settings",
            names=(path, "this extraction"),
        )
        if store.embedding not in (embedding, None) and embedding is not None:
            raise SpecMismatchError(
                f"cannot add to {path}: its embeddings are {store.embedding}, those of this "
                f"extraction {embedding}"
            )
        store.header.require_current(store.location)
        return store

    def writer(self) -> StoreWriter:
        """Return a context manager that adds videos and queries.

        Raises:
            StoreError: if the store is not a folder on this machine, or its version is older.
        """
        self.header.require_current(self.location)
        return StoreWriter(self, open_publisher(self._opened, "add to it"))

    def refresh(self) -> bool:
        """Look for index and query parts again; return whether other runs have changed them."""
        try:
            return self._read_parts()
        except CorruptFeatureError:  # a part that was listed may have been replaced and dropped
            return self._read_parts()

    def _read_parts(self) -> bool:
        videos, queries = self._parts.tables()
        with self._lock:
            before = self._part_paths
            self._videos, self._queries = videos, queries
            self._part_paths = (*videos.paths, *queries.paths)
            return self._part_paths != before

    @property
    @_of_parts
    def videos(self) -> pd.DataFrame:
        """A row for each indexed video: frames, duration, frame rate, decoder, source, digest."""
        return self._videos.frame(list(INDEX_COLUMNS))

    @_of_parts
    def video_rows(self) -> list[VideoRow]:
        """Return the row of each indexed video, as the index has it."""
        videos = self._videos
        if not videos:
            return []
        videos.read(list(INDEX_COLUMNS))
        return rows_of_columns({name: videos.column(name) for name in INDEX_COLUMNS})

    @property
    @_of_parts
    def queries(self) -> pd.DataFrame:
        """A row for each query: ids, sentence, split, domain, number of words and moments."""
        frame = self._queries.frame(_QUERY_FIELDS)
        return frame.rename(columns={"text": "query", "num_tokens": "num_words"})

    @_of_parts
    def lengths(self) -> dict[str, int]:
        """Return the number of frames of each indexed video by id."""
        ids, counts = (self._videos.column(name).tolist() for name in ("video_id", "num_frames"))
        return dict(zip(map(str, ids), counts, strict=True))

    @_of_parts
    def annotations(self, split: str | None = None, domain: str | None = None) -> list[Annotation]:
        """Return the annotations of a split and domain (default: all), in order of writing."""
        queries = self._queries
        queries.read(ANNOTATION_COLUMNS)
        with damage(f"{self.location}: annotations"):
            return [
                annotation_at(part, row)
                for part, row in queries
                if split in (None, part.columns["split"][row])
                and domain in (None, part.columns["domain"][row])
            ]

    @_of_parts
    def query_digests(self) -> dict[str, str]:
        """Return the content digest of each query by id."""
        queries = self._queries
        queries.read(("query_id", "digest"))
        pairs = zip(queries.column("query_id"), queries.column("digest"), strict=True)
        return {str(query_id): str(digest) for query_id, digest in pairs}

    def has_video(self, video_id: str) -> bool:
        """Whether this video is committed; one look-up by name, whatever the index says."""
        try:
            self._video_group(video_id)
        except FeatureNotFoundError:
            return False
        return True

    def is_indexed(self, video_id: str) -> bool:
        """Whether an index part names this video."""
        return video_id in self._videos

    def committed_digest(self, node: str) -> str | None:
        """Return the digest of a committed node, None if there is none."""
        group = self._node(node)
        return None if group is None else attributes_of(group).get("digest")

    def video_row(self, video_id: str) -> VideoRow:
        """Return the index row of a committed video, read from the video itself."""
        return video_record(self._video_group(video_id), self.header)[1]

    def video_attributes(self, video_id: str) -> dict[str, Any]:
        """Return all that is recorded of a committed video."""
        return video_record(self._video_group(video_id), self.header)[0]

    def read_video(
        self, video_id: str, *, layers: slice = _ALL, frames: slice = _ALL
    ) -> VideoFeatures:
        """Read a video's tokens in storage dtype, or only some layers and frames of them.

        Slices have step 1. Moves only the bytes asked for, and does not compute the digest, as
        `r2t store verify` does.

        Raises:
            FeatureNotFoundError: if the store does not have the video.
            CorruptFeatureError: if what is read is damaged, or holds NaN or infinity.
        """
        return self.locate_video(video_id, layers=layers, frames=frames).read()

    def open_video(self, video_id: str) -> FrameSource:
        """Open a video to be read a piece at a time; only the frames asked for are moved."""
        row = self.video_row(video_id)
        return FrameSource(
            video_id,
            row.num_frames,
            row.duration_seconds,
            row.frame_rate_fps,
            lambda frames: self.read_video(video_id, frames=frames),
        )

    def locate_video(
        self, video_id: str, *, layers: slice = _ALL, frames: slice = _ALL
    ) -> StoredVideo:
        """Find what `read_video` would read, to read it later into memory of the caller's own."""
        group = self._video_group(video_id)
        folder = None if self._root is None else self._root / group.path
        return locate_video_node(group, self.header, folder, layers=layers, frames=frames)

    def read_embedding(self, video_id: str, *, frames: slice = _ALL) -> NDArray[np.float16]:
        """Read CLIP's embedding of each frame of a video: [frames, embedding_width], unit length.

        Raises:
            FeatureNotFoundError: if the store does not have the video, or has no embeddings.
            CorruptFeatureError: if what is read is damaged.
        """
        embedding = read_video_embedding(self._video_group(video_id), self.header, frames)
        if embedding is None:
            raise FeatureNotFoundError(
                f"{self.location} has no embeddings; `r2t store upgrade` makes them where the last "
                "layer is stored, and `r2t extract` into a new store"
            )
        return embedding

    @_of_parts
    def read_query(self, query_id: str) -> QueryFeatures:
        """Read a query's tokens, and its embedding where the store has any.

        Raises:
            FeatureNotFoundError: if the store does not have the query.
            CorruptFeatureError: if what is read is damaged, or holds NaN or infinity.
        """
        part, row = self._find_query(query_id)
        with damage(f"query {query_id!r}"):
            features = query_features_at(part, row)
            require_fitting(features, self.header)
        if not has_only_finite(features.tokens):
            raise CorruptFeatureError(
                f"query {query_id!r}: its stored tokens hold NaN or infinity; `r2t store verify` "
                "finds every such query, `r2t store repair` lists them to annotate again"
            )
        return features

    def read_query_embedding(self, query_id: str) -> NDArray[np.float16]:
        """Read CLIP's embedding of a sentence alone: [embedding_width], unit length.

        Raises:
            FeatureNotFoundError: if the store does not have the query, or has no embeddings.
            CorruptFeatureError: if what is read is damaged.
        """
        part, row = self._find_query(query_id)
        if self.embedding is None:
            raise FeatureNotFoundError(f"{self.location} has no embeddings")
        with damage(f"query {query_id!r}"):
            embedding = part.rows("embedding", row, row + 1)[0]
            require_embedding(embedding, (self.embedding.width,), query_id)
        return embedding

    def _find_query(self, query_id: str) -> tuple[Part, int]:
        try:
            return self._queries.find(query_id)
        except KeyError:
            raise FeatureNotFoundError(f"{self.location} has no query {query_id!r}") from None

    def to_xarray(self) -> VideoDatasets:
        """Return a mapping of video ids to xarray's datasets, whose values are read when used.

        Raises:
            ConfigError: if xarray is not installed.
        """
        try:
            from r2t.store.xarray_view import VideoDatasets
        except ModuleNotFoundError as error:
            raise ConfigError(f"to_xarray needs xarray: {how_to_install('xarray')}") from error
        return VideoDatasets(self)

    def missing_videos(self) -> list[str] | None:
        """Return the indexed videos that are not there; None where looking costs many requests."""
        there: set[str] = set()
        if self._root is not None:
            with contextlib.suppress(FileNotFoundError):
                there.update(os.listdir(self._root / "videos"))
        elif isinstance(
            source := getattr(self._group.store, "source", None), ZippedFolder | ZipSet
        ):
            there.update(name.rstrip("/") for name in source.names("videos"))
        else:
            return None
        return [name for name in self.videos["video_id"].tolist() if node_name(name) not in there]

    def num_parts(self) -> dict[str, int]:
        """Return how many parts the index and the queries are read from."""
        return {"index": len(self._videos.paths), "queries": len(self._queries.paths)}

    @_of_parts
    def num_bytes(self) -> int:
        """Bytes that the indexed videos' tokens take."""
        return int(self._videos.column("num_frames").sum()) * self.spec.frame_bytes()

    @_of_parts
    def content(self) -> StoreContent:
        """Return which videos and queries there are, by their digests."""
        self._videos.read(("video_id", "digest"))
        ids, digests = (self._videos.column(name).tolist() for name in ("video_id", "digest"))
        return StoreContent(dict(zip(ids, digests, strict=True)), self.query_digests())

    def content_digest(self) -> str:
        """Return one digest over all videos' and queries' digests, whatever their order."""
        return self.content().digest()

    def __repr__(self) -> str:
        counts = f"{counted(len(self._videos), 'video')}, {counted(len(self._queries), 'query')}"
        return f"FeatureStore({self.location!r}, {counts})"

    @_of_parts
    def _repr_html_(self) -> str:
        spec = self.spec
        seconds = float(self._videos.column("duration_seconds").sum())
        named: list[str] = self._queries.column("split").tolist()
        splits = sorted(Counter(named).items())
        return html_table(
            f"FeatureStore {self.location}",
            [
                ("videos", f"{len(self):,}, {seconds / 3600:.2f} hours"),
                ("queries", ", ".join(f"{name} {count:,}" for name, count in splits) or "none"),
                ("model", spec.model),
                ("vision layers", ", ".join(map(str, spec.vision_layers))),
                ("text layers", ", ".join(map(str, spec.text_layers))),
                ("frames a second", spec.frame_rate),
                ("tokens", f"{spec.num_tokens} of width {spec.vision_width}, {spec.dtype}"),
                ("size", f"{self.num_bytes() / 1e9:.2f} GB"),
            ],
        )

    def __len__(self) -> int:
        """Number of indexed videos; an empty store is false, as other empty containers are."""
        return len(self._videos)

    def __iter__(self) -> Iterator[str]:
        """Yield the ids of the indexed videos."""
        return iter(self._videos.column("video_id").tolist())

    def __contains__(self, video_id: object) -> bool:
        """Whether this video is indexed."""
        return isinstance(video_id, str) and video_id in self._videos

    def __getitem__(self, video_id: str) -> VideoFeatures:
        """Read a whole video; `FeatureNotFoundError`, a `KeyError`, where there is none."""
        return self.read_video(video_id)

    def _node(self, path: str) -> zarr.Group | None:
        node = find_node(self._group, path, f"{self.location}: {path}")
        return node if isinstance(node, zarr.Group) else None

    def _video_group(self, video_id: str) -> zarr.Group:
        group = self._node(f"videos/{node_name(video_id)}")
        attributes = {} if group is None else attributes_of(group)
        if group is None or "digest" not in attributes:
            raise FeatureNotFoundError(
                f"{self.location}: the index names the video {video_id!r}, but it is not there: "
                "was the store copied halfway? Copy it again, or run `r2t store repair` and "
                "extract what that lists"
                if self.is_indexed(video_id)
                else f"{self.location} has no video {video_id!r}; extract it first"
            )
        if attributes.get("video_id") != video_id:
            raise CorruptFeatureError(
                f"{self.location}: the node of {video_id!r} holds "
                f"{attributes.get('video_id')!r} (ids that differ only in case clash on this disk)"
            )
        return group
