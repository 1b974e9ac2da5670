"""Annotations as a reader takes them: which it reads, and what they label on a video's frames.

Those that are left out or changed are counted in warnings.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from r2t.store.annotations import Annotation, SaliencyLabels
from r2t.store.errors import AnnotationError, AnnotationWarning
from r2t.store.feature_store import FeatureStore
from r2t.train.choices import PositiveRule
from r2t.train.data.batch import Binding
from r2t.train.data.sampling import Row

MAX_LENGTH_MISMATCH_CLIPS = 5


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
    """Return the queries that can be read, with labels if `positive` is given.

    What is left out or moved to fit is counted in `AnnotationWarning`s.
    """
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


def bind(
    annotation: Annotation, num_frames: int, frame_rate_fps: float, positive: PositiveRule
) -> Binding:
    """Lay an annotation on the grid of a video's frames.

    Without human saliency scores a frame is salient (1) if it starts inside a moment, else 0. With
    them a frame takes the score of the clip that holds the centre of its slot, (i + 0.5) / fps.
    """
    if not len(annotation.moments) and annotation.saliency is None:
        raise AnnotationError(f"{annotation!r} has neither moments nor saliency to learn from")
    moments = bind_moments(annotation.moments, num_frames, frame_rate_fps)
    num_adjusted = int(np.any(moments != annotation.moments * frame_rate_fps, axis=1).sum())
    if annotation.saliency is None:
        frames = np.arange(num_frames)
        inside = (frames >= np.ceil(moments[:, :1])) & (frames < np.ceil(moments[:, 1:]))
        saliency = np.asarray(inside.any(axis=0), dtype=np.float32)
    else:
        saliency = _frame_saliency(annotation, annotation.saliency, num_frames, frame_rate_fps)
    candidates = np.flatnonzero(saliency > _threshold(saliency, positive)).astype(np.int64)
    return Binding(moments.astype(np.float32), saliency, candidates, num_adjusted)


def bind_moments(
    moments_seconds: Float64[np.ndarray, "moments 2"], num_frames: int, frame_rate_fps: float
) -> Float64[np.ndarray, "moments 2"]:
    """Turn moments in seconds into moments in frames, clamped to the video.

    Ends in the wrong order are swapped. What is shorter than a frame becomes one frame around its
    centre, moved into the video where it would stick out.
    """
    frames = np.sort(np.clip(moments_seconds * frame_rate_fps, 0, num_frames), axis=1)
    short = frames[:, 1] - frames[:, 0] < 1
    centres = np.clip(frames[short].mean(axis=1), 0.5, num_frames - 0.5)
    frames[short] = np.stack([centres - 0.5, centres + 0.5], axis=1)
    return frames


def _frame_saliency(
    annotation: Annotation, labels: SaliencyLabels, num_frames: int, frame_rate_fps: float
) -> Float[np.ndarray, " labelled"]:
    scores = labels.normalised()
    centres_seconds = (np.arange(num_frames) + 0.5) / frame_rate_fps
    clips = np.floor(centres_seconds / labels.clip_seconds).astype(np.int64)
    mismatch = abs(len(scores) - (int(clips[-1]) + 1))
    if mismatch >= MAX_LENGTH_MISMATCH_CLIPS:
        raise AnnotationError(
            f"{annotation.name}: {len(scores)} clips of {labels.clip_seconds:g} s are "
            f"scored, but the frames of video {annotation.video_id!r} reach into clip {clips[-1]}: "
            "the annotation belongs to another cut of the video, or the video is incomplete"
        )
    return scores[clips[clips < len(scores)]]


def _threshold(saliency: Float[np.ndarray, " frames"], rule: PositiveRule) -> float:
    if rule == "above_median":
        return float(np.sort(saliency)[(len(saliency) - 1) // 2])  # the lower of two middle values
    return 0.0 if rule == "above_zero" else 0.5
