"""Queries for a store that has its videos already: only CLIP's text tower works."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from r2t.extract.clip import FrozenClip
from r2t.extract.queries import add_queries, equal_annotations, stored_only, warn_of_late_moments
from r2t.store.annotations import Annotation
from r2t.store.errors import AnnotationError, AnnotationWarning, SpecMismatchError, StoreError
from r2t.store.feature_store import FeatureStore
from r2t.store.rewrite import change_queries
from r2t.store.schema import UNKNOWN_WEIGHTS


@dataclass(frozen=True)
class AnnotateReport:
    """Queries added, replaced and found as they were; `missing_videos` counts those withheld."""

    num_new: int
    num_replaced: int
    num_unchanged: int
    missing_videos: dict[str, int]


def annotate(
    clip: FrozenClip,
    store: FeatureStore,
    annotations: Sequence[Annotation],
    *,
    replace: bool = False,
) -> AnnotateReport:
    """Add queries of stored videos; with `replace`, those with other content take the new one.

    A query whose sentence stays keeps its tokens. Raises `StoreError`, before anything is encoded,
    where a query would have to be replaced and may not be.
    """
    _require_same_text_tower(clip, store)
    given: dict[str, Annotation] = {}
    for each in annotations:
        if not equal_annotations(each, given.setdefault(each.query_id, each)):
            raise AnnotationError(
                f"two different annotations have the id {each.query_id!r}: "
                f"{given[each.query_id]!r} and {each!r}"
            )
    wanted, missing = stored_only(store, list(given.values()), ())
    stored = {each.query_id: each for each in store.annotations()}
    new = [each for each in wanted if each.query_id not in stored]
    changed = [
        each
        for each in wanted
        if each.query_id in stored and not equal_annotations(each, stored[each.query_id])
    ]
    if changed and not replace:
        raise StoreError(
            f"{len(changed)} queries are in {store.location} already with other content, the first "
            f"is {stored[changed[0].query_id]!r}, now {changed[0]!r}: replace them with --replace, "
            "or give them other ids"
        )
    reworded = [each for each in changed if each.query != stored[each.query_id].query]
    features = {
        each.query_id: store.read_query(each.query_id) for each in changed if each not in reworded
    }
    features |= {
        each.query_id: each
        for each in clip.encode_queries(
            [each.query for each in reworded], [each.query_id for each in reworded]
        )
    }
    if changed:
        change_queries(store.location, [(each, features[each.query_id]) for each in changed])
        store.refresh()
    with store.writer() as writer:
        add_queries(clip, writer, new)
    warn_of_late_moments(store, wanted)
    return AnnotateReport(
        num_new=len(new),
        num_replaced=len(changed),
        num_unchanged=len(wanted) - len(new) - len(changed),
        missing_videos=dict(Counter(missing)),
    )


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
            f"{store.location} was imported without a digest of CLIP's weights: they are taken to "
            f"be those of {clip.model} {clip.pretrained}",
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
