"""Queries for a store that has its videos already: only CLIP's text tower works."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from r2t.extract.clip import FrozenClip
from r2t.extract.queries import (
    Rewording,
    conflict,
    differing_fields,
    encode_sentences,
    find_rewordings,
    require_sentences,
    store_queries,
    stored_only,
    warn_of_late_moments,
    without_impossible,
    without_repetitions,
)
from r2t.store.annotations import Annotation
from r2t.store.change import change_queries, remove_videos
from r2t.store.errors import AnnotationWarning, SpecMismatchError, StoreError
from r2t.store.feature_store import FeatureStore
from r2t.store.features import QueryFeatures
from r2t.store.schema import UNKNOWN_WEIGHTS
from r2t.store.video_names import VideoNames, match_videos


@dataclass(frozen=True)
class AnnotateReport:
    """Queries added, replaced and found as they were.

    `missing_videos` counts the queries that were left out because their videos are not stored, and
    `near_misses` says what some of these may be meant for. `impossible_queries` have a moment
    wholly outside their video and were left out, with the reason by id. `rewordings` are stored
    sentences that given ones seem to replace; with `replace` they were taken out.
    """

    num_new: int
    num_replaced: int
    num_unchanged: int
    missing_videos: dict[str, int]
    near_misses: dict[str, str]
    impossible_queries: dict[str, str]
    rewordings: tuple[Rewording, ...]

    @property
    def complete(self) -> bool:
        """Whether everything that was given is in the store."""
        return not (self.missing_videos or self.impossible_queries)


def annotate_store(
    clip: FrozenClip,
    store: FeatureStore,
    annotations: Sequence[Annotation],
    *,
    replace: bool = False,
) -> AnnotateReport:
    """Add queries of stored videos; with `replace`, those with other content take the new one.

    A stored sentence that a given one rewords is replaced by it too (`find_rewordings`). A query
    whose sentence stays keeps its tokens. Raises `StoreError`, before anything is encoded, where a
    query would have to be replaced and may not be.
    """
    _require_same_text_tower(clip, store)
    names = VideoNames(store.videos["video_id"].tolist())
    given = without_repetitions(match_videos(annotations, names))
    found, missing = stored_only(store, given, ())
    require_sentences(clip, found)
    wanted, impossible = without_impossible(store, found)
    stored = {each.query_id: each for each in store.annotations()}
    new = [each for each in wanted if each.query_id not in stored]
    changed = [
        each
        for each in wanted
        if each.query_id in stored and differing_fields(stored[each.query_id], each)
    ]
    if changed and not replace:
        raise StoreError(
            f"{conflict(store, stored, changed)}; replace with --replace, or give other ids"
        )
    rewordings = find_rewordings(stored, given, wanted if replace else new)
    if changed:
        change_queries(store.location, _with_tokens(clip, store, stored, changed))
        store.refresh()
    with store.writer() as writer:
        store_queries(clip, writer, new)
    if replace and rewordings:
        remove_videos(store.location, (), query_ids=[each.query_id for each in rewordings])
        store.refresh()
    warn_of_late_moments(store, wanted)
    return AnnotateReport(
        num_new=len(new),
        num_replaced=len(changed),
        num_unchanged=len(wanted) - len(new) - len(changed),
        missing_videos=missing,
        near_misses={name: hint for name in missing if (hint := names.hint(name))},
        impossible_queries=impossible,
        rewordings=tuple(rewordings),
    )


def _with_tokens(
    clip: FrozenClip,
    store: FeatureStore,
    stored: Mapping[str, Annotation],
    changed: Sequence[Annotation],
) -> list[tuple[Annotation, QueryFeatures]]:
    """Return changed annotations with the tokens of their sentences: those stored, or new ones."""
    reworded = [each for each in changed if each.query != stored[each.query_id].query]
    encoded = encode_sentences(clip, reworded, store.embedding)
    features = {each.query_id: each for each in encoded}
    return [
        (each, features.get(each.query_id) or store.read_query(each.query_id)) for each in changed
    ]


def _require_same_text_tower(clip: FrozenClip, store: FeatureStore) -> None:
    spec = store.spec
    pairs = {
        "weights_sha256": (spec.weights_sha256, clip.weights_sha256),
        "text_layers": (spec.text_layers, clip.text_layers),
        "text_width": (spec.text_width, clip.text_width),
    }
    if spec.weights_sha256 == UNKNOWN_WEIGHTS:
        del pairs["weights_sha256"]
        warnings.warn(
            f"{store.location} was imported without a digest of CLIP's weights: they are "
            f"assumed to be those of {clip.model} {clip.pretrained}",
            AnnotationWarning,
            stacklevel=2,
        )
    differing = [
        f"{name}: {ours!r} in the store, {theirs!r} given"
        for name, (ours, theirs) in pairs.items()
        if ours != theirs
    ]
    if differing:
        raise SpecMismatchError(f"cannot annotate {store.location}: " + "; ".join(differing))
