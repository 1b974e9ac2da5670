"""The feature store: a Zarr v3 group that says what it holds and can prove it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from r2t.store.empty_store import make_empty_store
from r2t.store.errors import (
    ConfigError,
    CorruptFeatureError,
    FeatureNotFoundError,
    SpecMismatchError,
)
from r2t.store.features import FrameSource, VideoFeatures
from r2t.store.format import (
    VideoRow,
    attributes_of,
    find_node,
    node_name,
)
from r2t.store.publish import open_publisher, publisher_at
from r2t.store.schema import EmbeddingSpec, FeatureSpec
from r2t.store.sources import ByteCache, ZippedFolder, ZipSet, open_root
from r2t.store.stored_tables import StoredTables
from r2t.store.video_reader import (
    StoredVideo,
    locate_video_node,
    read_video_embedding,
    video_record,
)
from r2t.store.wording import how_to_install
from r2t.store.writer import StoreWriter

if TYPE_CHECKING:
    from r2t.store.xarray_view import VideoDatasets

_ALL = slice(None)


class FeatureStore(StoredTables):
    """CLIP features of videos and queries, open for reading; `writer()` adds to a local store.

    Opening reads the ids and the lengths of the videos and the ids of the queries, and never lists
    videos: a video is looked up by its name. All else is read when it is asked for.
    """

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

    def has_video(self, video_id: str) -> bool:
        """Whether this video is committed; one look-up by name, whatever the index says."""
        try:
            self._video_group(video_id)
        except FeatureNotFoundError:
            return False
        return True

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
