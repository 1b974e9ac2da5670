"""What two stores differ in, as their headers and indexes say: no tokens are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from r2t.store.content import Changes
from r2t.store.feature_store import FeatureStore

_MEANING = ("num_frames", "duration_seconds", "frame_rate_fps", "digest")
_RECORDED = ("decoder", "source_name", "source_bytes", "source_sha256")

Pairs = Mapping[str, tuple[Any, Any]]
"""Fields in which two stores differ: what the first says, and the second; None if nothing."""


@dataclass(frozen=True)
class StoreDiff:
    """How a second store differs from a first.

    A video has changed if its tokens, its duration or its frame rate have. `recorded` are videos of
    which only the recorded decoder or source differs; like `provenance` they do not count for
    `equal`.
    """

    first: str
    second: str
    identity: Pairs
    embedding: Pairs
    provenance: Pairs
    videos: Changes
    queries: Changes
    recorded: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether both hold the same features and queries, made in the same way."""
        return not (self.identity or self.embedding or self.videos or self.queries)


def diff_stores(first: str | Path, second: str | Path) -> StoreDiff:
    """Compare two stores, here or at URLs, by their headers and the digests in their indexes.

    Raises `StoreError` where one cannot be opened.
    """
    before, after = FeatureStore.open(first), FeatureStore.open(second)
    videos = Changes.between(_rows(before, _MEANING), _rows(after, _MEANING))
    sources = Changes.between(_rows(before, _RECORDED), _rows(after, _RECORDED))
    return StoreDiff(
        first=str(first),
        second=str(second),
        identity=_pairs(before.spec.to_dict(), after.spec.to_dict()),
        embedding=_pairs(_embedding(before), _embedding(after)),
        provenance=_pairs(before.provenance, after.provenance),
        videos=videos,
        queries=Changes.between(before.query_digests(), after.query_digests()),
        recorded=tuple(sorted(set(sources.changed).difference(videos.changed))),
    )


def _rows(store: FeatureStore, names: tuple[str, ...]) -> dict[str, str]:
    frame = store.videos
    columns = [frame[name].tolist() for name in names]
    return dict(zip(frame["video_id"].tolist(), map(repr, zip(*columns, strict=True)), strict=True))


def _embedding(store: FeatureStore) -> dict[str, Any]:
    return {} if store.embedding is None else asdict(store.embedding)


def _pairs(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        name: (first.get(name), second.get(name))
        for name in sorted({*first, *second})
        if first.get(name) != second.get(name)
    }
