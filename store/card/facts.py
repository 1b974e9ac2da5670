"""What a store itself says of its content, for its card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from r2t.store.annotations import Split
from r2t.store.check import SplitCounts, count_splits
from r2t.store.feature_store import FeatureStore
from r2t.store.sources import without_places
from r2t.store.wording import counted

TAGS = ("video", "temporal-grounding", "moment-retrieval", "clip", "features", "zarr", "r2t")
CARD_MARK = "made by r2t store card"
"""What both documents contain, so that they may be replaced."""


@dataclass(frozen=True)
class StoreFacts:
    """What a card says of a store's content.

    `num_bytes` are those of the videos' features. `video_licences` counts videos by the licence
    that was recorded of them, None being those without one.
    """

    num_videos: int
    num_frames: int
    duration_hours: float
    num_bytes: int
    splits: Mapping[Split, SplitCounts]
    identity: Mapping[str, Any]
    provenance: Mapping[str, Any]
    has_embeddings: bool
    video_licences: Mapping[str | None, int]
    last_written: date | None

    @classmethod
    def of(
        cls,
        store: FeatureStore,
        video_licences: Mapping[str, str | None],
        last_written: date | None,
    ) -> StoreFacts:
        """Gather them; the licences are those of `store.change.licences`."""
        videos = store.videos
        return cls(
            num_videos=len(videos),
            num_frames=int(videos["num_frames"].sum()),
            duration_hours=float(videos["duration_seconds"].sum()) / 3600,
            num_bytes=store.num_bytes(),
            splits=count_splits(store),
            identity=store.spec.to_dict(),
            provenance=without_places(store.provenance),
            has_embeddings=store.embedding is not None,
            video_licences=Counter(video_licences.values()),
            last_written=last_written,
        )

    @property
    def title(self) -> str:
        """A title for a store whose owner gave none."""
        return f"CLIP features of {counted(self.num_videos, 'video')}"

    @property
    def summary(self) -> str:
        """What the store is, in a sentence."""
        num_queries = sum(split.num_queries for split in self.splits.values())
        return (
            f"Features of frozen CLIP ({self.identity['model']}) for video temporal grounding: "
            f"{counted(self.num_videos, 'video')} of {self.duration_hours:.3g} hours in "
            f"{counted(self.num_frames, 'frame')}, and {counted(num_queries, 'sentence')}."
        )
