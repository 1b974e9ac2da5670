"""The queries of an extraction: what must hold of them, which can be stored, and storing them."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from r2t.extract.clip import FrozenClip
from r2t.store.annotations import Annotation, make_query_id
from r2t.store.errors import AnnotationError, AnnotationWarning, StoreError
from r2t.store.feature_store import FeatureStore
from r2t.store.features import QueryFeatures
from r2t.store.format import QUERIES_PER_PART
from r2t.store.schema import EmbeddingSpec
from r2t.store.wording import counted_of
from r2t.store.writer import StoreWriter

_SCALARS = ("query_id", "video_id", "split", "domain", "duration_seconds")


@dataclass(frozen=True)
class Rewording:
    """A stored sentence, and the one that seems to have taken its place: for the same moments."""

    query_id: str
    video_id: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.before!r} → {self.after!r} of {self.video_id} (stored as {self.query_id})"


def require_unambiguous(
    store: FeatureStore, annotations: Sequence[Annotation]
) -> tuple[list[Annotation], dict[str, Annotation]]:
    """Return the annotations without repetitions, and all that the store has, by id.

    Finds out before hours of work what would make them impossible to store.
    """
    given = without_repetitions(annotations)
    stored = {each.query_id: each for each in store.annotations()}
    changed = [
        each
        for each in given
        if each.query_id in stored and differing_fields(stored[each.query_id], each)
    ]
    if changed:
        raise StoreError(
            f"{conflict(store, stored, changed)}; to take what is given now: r2t store annotate "
            f"{store.location} --annotations FILE --replace"
        )
    return given, stored


def without_repetitions(annotations: Sequence[Annotation]) -> list[Annotation]:
    """Return each annotation once; raise `AnnotationError` where two of one id differ."""
    seen: dict[str, Annotation] = {}
    for each in annotations:
        first = seen.setdefault(each.query_id, each)
        if first is not each and (fields := differing_fields(first, each)):
            raise AnnotationError(
                f"two different annotations have the id {each.query_id!r} ({each.query!r} of "
                f"{each.video_id!r}): {'; '.join(fields)}"
            )
    return list(seen.values())


def require_sentences(clip: FrozenClip, annotations: Iterable[Annotation]) -> None:
    """Raise `AnnotationError` for a sentence without any word that is not a video's title."""
    for each in annotations:
        if not (each.is_title or clip.queries.holds_words(each.query)):
            raise AnnotationError(f"the sentence of {each.name} is empty")


def conflict(
    store: FeatureStore, stored: Mapping[str, Annotation], changed: Sequence[Annotation]
) -> str:
    """Say of queries that are stored with other content which they are and what differs."""
    first = changed[0]
    fields = "; ".join(differing_fields(stored[first.query_id], first))
    content = f"{store.location} already with other content"
    if len(changed) == 1:
        return f"{first.name} is in {content} ({fields})"
    return f"{len(changed)} queries are in {content}, the first is {first.name} ({fields})"


def differing_fields(before: Annotation, after: Annotation) -> list[str]:
    """Name each field in which two annotations differ, with both values; empty if none does.

    Blanks around a sentence make no difference, since they make none to CLIP.
    """
    fields = [
        f"{name} {getattr(before, name)!r}, now {getattr(after, name)!r}"
        for name in _SCALARS
        if getattr(before, name) != getattr(after, name)
    ]
    if before.query.strip() != after.query.strip():
        fields.append(f"query {before.query!r}, now {after.query!r}")
    if not np.array_equal(before.moments, after.moments):
        fields.append(f"moments {before.moments.tolist()}, now {after.moments.tolist()}")
    one, other = before.saliency, after.saliency
    if one is None or other is None:
        if one is not other:
            fields.append("saliency none, now given" if one is None else "saliency given, now none")
        return fields
    fields += [
        f"saliency's {name} {getattr(one, name)!r}, now {getattr(other, name)!r}"
        for name in ("clip_seconds", "lowest", "highest")
        if getattr(one, name) != getattr(other, name)
    ]
    if not np.array_equal(one.scores, other.scores):
        fields.append("saliency scores differ")
    return fields


def find_rewordings(
    stored: Mapping[str, Annotation], given: Sequence[Annotation], now: Iterable[Annotation]
) -> list[Rewording]:
    """Find stored sentences that seem to have been written anew.

    Such a one is not among those `given`, while one of `now` has the same moments of the same
    video; the ids of both were made of their sentences, so nothing else connects them.
    """
    kept = {each.query_id for each in given}
    left: dict[tuple[str, bytes], list[Annotation]] = {}
    for each in stored.values():
        if each.query_id not in kept and _is_named_by_sentence(each):
            left.setdefault((each.video_id, each.moments.tobytes()), []).append(each)
    found: list[Rewording] = []
    for each in now if left else ():
        before = left.get((each.video_id, each.moments.tobytes()))
        if before and len(each.moments) and _is_named_by_sentence(each):
            old = before.pop(0)
            found.append(Rewording(old.query_id, old.video_id, old.query, each.query))
    return found


def _is_named_by_sentence(annotation: Annotation) -> bool:
    return annotation.query_id == make_query_id(annotation.video_id, annotation.query)


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


def store_queries(clip: FrozenClip, writer: StoreWriter, annotations: Sequence[Annotation]) -> None:
    """Encode and store queries, a part of the store at a time."""
    for start in range(0, len(annotations), QUERIES_PER_PART):
        part = annotations[start : start + QUERIES_PER_PART]
        writer.add_queries(part, encode_sentences(clip, part, writer.embedding))


def encode_sentences(
    clip: FrozenClip, annotations: Sequence[Annotation], embedding: EmbeddingSpec | None
) -> list[QueryFeatures]:
    """Encode the sentences of annotations for a store whose embeddings are these, or that has none.

    A video's title may be without words.
    """
    features = clip.encode_queries(
        [each.query for each in annotations],
        [each.query_id for each in annotations],
        may_be_empty={each.query_id for each in annotations if each.is_title},
    )
    return features if embedding else [replace(each, embedding=None) for each in features]


def without_impossible(
    store: FeatureStore, annotations: Sequence[Annotation]
) -> tuple[list[Annotation], dict[str, str]]:
    """Leave out the queries with a moment wholly outside their video; say why, by query id.

    A moment that starts over a frame's slot after the end cannot be right: its times are frames,
    milliseconds, or of another cut. One that only ends late is kept as given.
    """
    ends = _last_seconds(store)
    impossible: dict[str, str] = {}
    for each in annotations:
        end = ends.get(each.video_id, np.inf)
        if len(each.moments) and (late := each.moments[each.moments[:, 0] > end]).size:
            start, stop = late[0].tolist()
            impossible[each.query_id] = (
                f"{each.query!r} of {each.video_id!r}: the moment [{start:g}, {stop:g}] starts "
                f"after the video's end at {_duration(store, each.video_id):.2f} s"
            )
    return [each for each in annotations if each.query_id not in impossible], impossible


def warn_of_late_moments(store: FeatureStore, annotations: Sequence[Annotation]) -> None:
    """Count the queries with a moment that ends over a frame's slot after its video."""
    last = _last_seconds(store)
    late = [
        each
        for each in annotations
        if len(each.moments) and each.moments.max() > last.get(each.video_id, np.inf)
    ]
    if late:
        warnings.warn(
            f"moments past the end of the video, kept as given: in "
            f"{counted_of(len(late), len(annotations), 'query')}; the first is {late[0].name}, "
            f"to {late[0].moments.max():g} s",
            AnnotationWarning,
            stacklevel=2,
        )


def _last_seconds(store: FeatureStore) -> dict[str, float]:
    """Return a frame's slot after the end of each video."""
    table = store.videos
    ends = table["duration_seconds"] + 1 / table["frame_rate_fps"]
    return dict(zip(table["video_id"], ends, strict=True))


def _duration(store: FeatureStore, video_id: str) -> float:
    return store.video_row(video_id).duration_seconds
