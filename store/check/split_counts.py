"""How much each split of a store holds."""

from __future__ import annotations

from dataclasses import dataclass

from r2t.store.annotations import SPLITS, Split
from r2t.store.feature_store import FeatureStore


@dataclass(frozen=True)
class SplitCounts:
    """How much a split holds; `num_videos` are those that its sentences are about."""

    num_queries: int
    num_videos: int
    num_moments: int


def count_splits(store: FeatureStore) -> dict[Split, SplitCounts]:
    """Count the queries, videos and moments of each split that has any."""
    queries = store.queries
    found: dict[Split, SplitCounts] = {}
    for split in SPLITS:
        rows = queries[queries["split"] == split]
        if len(rows):
            num_videos, num_moments = rows["video_id"].nunique(), rows["num_moments"].sum()
            found[split] = SplitCounts(len(rows), int(num_videos), int(num_moments))
    return found
