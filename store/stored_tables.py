"""What a store's index and queries say, kept as tables whose columns are read on demand."""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from r2t.store.annotations import Annotation
from r2t.store.content import StoreContent
from r2t.store.errors import (
    CorruptFeatureError,
    FeatureNotFoundError,
)
from r2t.store.features import QueryFeatures
from r2t.store.format import (
    ANNOTATION_COLUMNS,
    INDEX_COLUMNS,
    Part,
    PartReader,
    VideoRow,
    annotation_at,
    damage,
    has_only_finite,
    query_features_at,
    require_fitting,
    rows_of_columns,
)
from r2t.store.html import html_table
from r2t.store.legal import require_embedding
from r2t.store.sources import StoreRoot
from r2t.store.wording import counted

if TYPE_CHECKING:
    import pandas as pd


_P = ParamSpec("_P")
_T = TypeVar("_T")
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
    read: Callable[Concatenate[StoredTables, _P], _T],
) -> Callable[Concatenate[StoredTables, _P], _T]:
    """Let a method that reads columns on demand retry if their part was replaced meanwhile."""

    @functools.wraps(read)
    def again(store: StoredTables, *arguments: _P.args, **options: _P.kwargs) -> _T:
        before = store.part_paths
        try:
            return read(store, *arguments, **options)
        except CorruptFeatureError:
            store.refresh()
            if store.part_paths == before:  # not what it returns: another thread may be ahead
                raise
            return read(store, *arguments, **options)

    return again


class StoredTables:
    """The videos that a store's index names, and its queries; `FeatureStore` adds the features."""

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

    @property
    def part_paths(self) -> tuple[str, ...]:
        """Where in the store the parts are that are read."""
        return self._part_paths

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
        videos = self._videos
        ids, counts = (videos.column(name).tolist() for name in ("video_id", "num_frames"))
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

    def is_indexed(self, video_id: str) -> bool:
        """Whether an index part names this video."""
        return video_id in self._videos

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

    @_of_parts
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
        videos = self._videos
        videos.read(("video_id", "digest"))
        ids, digests = (videos.column(name).tolist() for name in ("video_id", "digest"))
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
