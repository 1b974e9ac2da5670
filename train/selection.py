"""Which annotations a reader reads, and what is told of those it leaves out or changes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from r2t.store.annotations import Annotation
from r2t.store.errors import AnnotationWarning
from r2t.store.feature_store import FeatureStore
from r2t.train.batch import Binding, PositiveRule, bind
from r2t.train.sampling import Row


@dataclass(frozen=True)
class Item:
    """A query, what it is trained on if it is, and the row of features that it reads."""

    annotation: Annotation
    binding: Binding | None
    row: Row


def select_items(
    store: FeatureStore,
    annotations: Sequence[Annotation],
    positive: PositiveRule | None,
    min_duration_seconds: float,
) -> list[Item]:
    table = store.videos
    columns = ("num_frames", "frame_rate_fps", "duration_seconds")
    known = {
        video_id: values
        for video_id, *values in zip(
            table["video_id"], *(table[name] for name in columns), strict=True
        )
    }
    absent: list[Annotation] = []
    short: list[Annotation] = []
    items: list[Item] = []
    for annotation in annotations:
        if annotation.video_id not in known:
            absent.append(annotation)
            continue
        num_frames, frame_rate_fps, duration_seconds = known[annotation.video_id]
        if duration_seconds < min_duration_seconds:
            short.append(annotation)
            continue
        binding = None
        if positive is not None:
            binding = bind(annotation, int(num_frames), float(frame_rate_fps), positive)
            num_frames = len(binding.saliency)
        items.append(Item(annotation, binding, Row(annotation.video_id, int(num_frames))))
    adjusted = sum(item.binding.num_adjusted for item in items if item.binding)
    for count, what in (
        (len(absent), f"queries are left out: the store lacks their videos{_names(absent)}"),
        (
            len(short),
            f"queries are left out: videos under {min_duration_seconds:g} s{_names(short)}",
        ),
        (adjusted, "moments were clamped to their video or widened to one frame"),
    ):
        if count:
            warnings.warn(f"{count} {what}", AnnotationWarning, stacklevel=3)
    return items


def _names(annotations: list[Annotation], shown: int = 3) -> str:
    videos = list(dict.fromkeys(annotation.video_id for annotation in annotations))
    more = f" and {len(videos) - shown} more" if len(videos) > shown else ""
    return f" ({', '.join(videos[:shown])}{more})"
