"""Which annotations a reader reads, and what is told of those it leaves out or changes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from r2t.store.annotations import Annotation
from r2t.store.errors import AnnotationWarning
from r2t.store.feature_store import FeatureStore
from r2t.train.data.batch import Binding, PositiveRule, bind
from r2t.train.data.sampling import Row


@dataclass(frozen=True)
class BoundQuery:
    """A query, what it is trained on if it is, and the row of features that it reads."""

    annotation: Annotation
    binding: Binding | None
    row: Row


@dataclass(frozen=True)
class _Sorted:
    """Annotations with the facts of their video in the store, and those that are left out."""

    kept: list[tuple[Annotation, int, float]]  # number of frames, frames per second
    absent: list[Annotation]
    short: list[Annotation]


def count_trained(
    store: FeatureStore, annotations: Sequence[Annotation], min_duration_seconds: float
) -> int:
    """Return how many of the annotations a training reads."""
    return len(_sort(store, annotations, min_duration_seconds).kept)


def select_items(
    store: FeatureStore,
    annotations: Sequence[Annotation],
    positive: PositiveRule | None,
    min_duration_seconds: float,
) -> list[BoundQuery]:
    found = _sort(store, annotations, min_duration_seconds)
    items: list[BoundQuery] = []
    for annotation, num_frames, frame_rate_fps in found.kept:
        binding = None
        if positive is not None:
            binding = bind(annotation, num_frames, frame_rate_fps, positive)
            num_frames = len(binding.saliency)
        items.append(BoundQuery(annotation, binding, Row(annotation.video_id, num_frames)))
    adjusted = sum(item.binding.num_adjusted for item in items if item.binding)
    for count, what in (
        (
            len(found.absent),
            f"queries are left out: the store lacks their videos{_names(found.absent)}",
        ),
        (
            len(found.short),
            f"queries are left out: videos under {min_duration_seconds:g} s{_names(found.short)}",
        ),
        (adjusted, "moments were clamped to their video or widened to one frame"),
    ):
        if count:
            warnings.warn(f"{count} {what}", AnnotationWarning, stacklevel=3)
    return items


def _sort(
    store: FeatureStore, annotations: Sequence[Annotation], min_duration_seconds: float
) -> _Sorted:
    """Sort annotations by whether they are read; a video lasts as long as its annotation says."""
    table = store.videos
    columns = ("num_frames", "frame_rate_fps", "duration_seconds")
    known = {
        video_id: values
        for video_id, *values in zip(
            table["video_id"], *(table[name] for name in columns), strict=True
        )
    }
    found = _Sorted([], [], [])
    for annotation in annotations:
        if annotation.video_id not in known:
            found.absent.append(annotation)
            continue
        num_frames, frame_rate_fps, measured_seconds = known[annotation.video_id]
        if (annotation.duration_seconds or measured_seconds) < min_duration_seconds:
            found.short.append(annotation)
        else:
            found.kept.append((annotation, int(num_frames), float(frame_rate_fps)))
    return found


def _names(annotations: list[Annotation], shown: int = 3) -> str:
    videos = list(dict.fromkeys(annotation.video_id for annotation in annotations))
    more = f" and {len(videos) - shown} more" if len(videos) > shown else ""
    return f" ({', '.join(videos[:shown])}{more})"
