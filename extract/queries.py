"""The queries of an extraction: what must hold of them, which can be stored, and storing them."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from r2t.extract.clip import FrozenClip
from r2t.store.annotations import Annotation
from r2t.store.errors import AnnotationError, AnnotationWarning, StoreError
from r2t.store.feature_store import FeatureStore
from r2t.store.writer import StoreWriter

_QUERIES_AT_A_TIME = 4096  # one part of the store each


def require_unambiguous(
    store: FeatureStore, annotations: Sequence[Annotation]
) -> tuple[list[Annotation], set[str]]:
    """Return the annotations without repetitions, and the ids of those that are stored already.

    Finds out before hours of work what would make them impossible to store.
    """
    stored = {each.query_id: each for each in store.annotations()}
    seen: dict[str, Annotation] = {}
    for each in annotations:
        if not each.query.strip():
            raise AnnotationError(f"query {each.query_id!r} of {each.video_id!r} is empty")
        if each.query_id in stored and not equal_annotations(each, stored[each.query_id]):
            raise StoreError(
                f"query {each.query_id!r} is in {store.location} already with other content "
                f"({stored[each.query_id]!r}, now {each!r}): give it another id, or extract into "
                "a new store"
            )
        if not equal_annotations(each, seen.setdefault(each.query_id, each)):
            raise AnnotationError(
                f"two different annotations have the id {each.query_id!r}: "
                f"{seen[each.query_id]!r} and {each!r}"
            )
    return list(seen.values()), stored.keys() & seen.keys()


def equal_annotations(one: Annotation, other: Annotation) -> bool:
    """Whether two annotations say the same."""
    scalars = ("query_id", "video_id", "query", "split", "domain", "duration_seconds")
    if any(getattr(one, name) != getattr(other, name) for name in scalars):
        return False
    if (one.saliency is None) != (other.saliency is None):
        return False
    if one.saliency is not None and other.saliency is not None:
        fields = ("clip_seconds", "lowest", "highest")
        if any(getattr(one.saliency, name) != getattr(other.saliency, name) for name in fields):
            return False
        if not np.array_equal(one.saliency.scores, other.saliency.scores):
            return False
    return np.array_equal(one.moments, other.moments)


def stored_only(
    store: FeatureStore, annotations: Sequence[Annotation], given: Collection[str]
) -> tuple[list[Annotation], dict[str, int]]:
    """Keep annotations of stored videos; count those of videos that nobody has."""
    stored = {
        name: store.has_video(name) for name in dict.fromkeys(each.video_id for each in annotations)
    }
    missing = Counter(
        each.video_id
        for each in annotations
        if not stored[each.video_id] and each.video_id not in given
    )
    return [each for each in annotations if stored[each.video_id]], dict(missing)


def add_queries(clip: FrozenClip, writer: StoreWriter, annotations: Sequence[Annotation]) -> None:
    """Encode and store queries, a part of the store at a time."""
    for start in range(0, len(annotations), _QUERIES_AT_A_TIME):
        part = annotations[start : start + _QUERIES_AT_A_TIME]
        features = clip.encode_queries(
            [each.query for each in part], [each.query_id for each in part]
        )
        writer.add_queries(part, features)


def warn_of_late_moments(store: FeatureStore, annotations: Sequence[Annotation]) -> None:
    """Count the queries with a moment that ends over a frame's slot after its video."""
    table = store.videos
    ends = table["duration_seconds"] + 1 / table["frame_rate_fps"]
    last: dict[str, float] = dict(zip(table["video_id"], ends, strict=True))
    late = [
        each
        for each in annotations
        if len(each.moments) and each.moments.max() > last.get(each.video_id, np.inf)
    ]
    if late:
        warnings.warn(
            f"{len(late)} of {len(annotations)} queries have a moment past the end of their video; "
            f"it was kept as given. The first is query {late[0].query_id!r} of "
            f"{late[0].video_id!r}, to {late[0].moments.max():g} s",
            AnnotationWarning,
            stacklevel=2,
        )
