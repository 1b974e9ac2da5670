"""Which annotated videos lack features, whose features nobody annotated, or are of another cut."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from r2t.store.annotations import Annotation
from r2t.store.errors import AnnotationWarning
from r2t.store.feature_store import FeatureStore
from r2t.store.schema import PER_VIDEO
from r2t.store.video_names import VideoNames, match_videos
from r2t.store.wording import counted_of


@dataclass(frozen=True)
class Coverage:
    """Counts, and the gaps: queries of each annotated video that is not stored, and the reverse.

    `queries_without_features` are annotated queries whose own tokens are not stored.
    """

    num_annotated_videos: int
    num_stored_videos: int
    num_queries: int
    annotated_without_features: dict[str, int]
    features_without_annotations: tuple[str, ...]
    queries_without_features: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every annotated video and query is stored and every stored video annotated."""
        return not (
            self.annotated_without_features
            or self.features_without_annotations
            or self.queries_without_features
        )


def store_coverage(
    store: FeatureStore, annotations: Sequence[Annotation] | None = None
) -> Coverage:
    """Compare the indexed videos with annotations: the store's own, if none are given."""
    queries = store.queries
    if annotations is None:
        ids: list[tuple[str, str]] = list(
            zip(queries["query_id"].tolist(), queries["video_id"].tolist(), strict=True)
        )
    else:
        names = VideoNames(store.videos["video_id"].tolist())
        ids = [(each.query_id, each.video_id) for each in match_videos(annotations, names)]
    stored, known = set(store.videos["video_id"].tolist()), set(queries["query_id"].tolist())
    annotated = Counter(video_id for _, video_id in ids)
    return Coverage(
        num_annotated_videos=len(annotated),
        num_stored_videos=len(stored),
        num_queries=len(ids),
        annotated_without_features={
            video_id: count for video_id, count in annotated.items() if video_id not in stored
        },
        features_without_annotations=tuple(sorted(stored - annotated.keys())),
        queries_without_features=tuple(query_id for query_id, _ in ids if query_id not in known),
    )


def warn_of_other_cuts(store: FeatureStore, annotations: Sequence[Annotation]) -> None:
    """Count the videos with other than a frame for each labelled clip, where that is their rate.

    Such a video is longer or shorter than the one that was labelled; it can be no part of an
    evaluation that needs one score a clip.
    """
    if store.spec.frame_rate != PER_VIDEO:
        return
    lengths = store.lengths()
    labelled = {
        each.video_id: len(each.saliency.scores)
        for each in annotations
        if each.saliency is not None and each.video_id in lengths
    }
    other = [name for name, num_clips in labelled.items() if lengths[name] != num_clips]
    if other:
        warnings.warn(
            "of another cut than their labels, or incomplete: "
            f"{counted_of(len(other), len(labelled), 'video')}; the first is {other[0]!r}, with "
            f"{lengths[other[0]]} frames for {labelled[other[0]]} clips: replace them by the "
            "videos that were labelled",
            AnnotationWarning,
            stacklevel=2,
        )
