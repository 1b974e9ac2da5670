"""Batches of a reader against what the store holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_store import make_store

from r2t.store import Annotation, FeatureStore
from r2t.store.errors import AnnotationWarning
from r2t.train.batch import Batch
from r2t.train.reader import FeatureReader


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("reader") / "feats.zarr")


def equal(a: Batch, b: Batch) -> bool:
    assert a.targets is not None
    assert b.targets is not None
    return (
        a.query_ids == b.query_ids
        and torch.equal(a.video, b.video)
        and torch.equal(a.query, b.query)
        and torch.equal(a.targets.positive_frame, b.targets.positive_frame)
    )


def test_in_order_yields_the_stored_features(store: FeatureStore) -> None:
    annotations = store.annotations()
    reader = FeatureReader(store, annotations, batch_size=5)
    batches = list(reader.in_order())
    assert len(batches) == len(reader) == 3
    ids = [query_id for batch in batches for query_id in batch.query_ids]
    assert ids == [annotation.query_id for annotation in annotations]
    for batch in batches:
        assert batch.targets is None
        for row, query_id in enumerate(batch.query_ids):
            frames, words = int(batch.num_frames[row]), int(batch.num_words[row])
            video = store.read_video(query_id.split("-")[0]).tokens
            query = store.read_query(query_id).tokens
            np.testing.assert_array_equal(batch.video[row, :, :frames].numpy(), video)
            np.testing.assert_array_equal(batch.query[row, :, :words].numpy(), query)
            assert not batch.video[row, :, frames:].any()
            assert not batch.query[row, :, words:].any()


def test_epoch_depends_on_seed_and_number_alone(store: FeatureStore) -> None:
    def epoch(seed: int, number: int, prefetch: int) -> list[Batch]:
        reader = FeatureReader(
            store,
            store.annotations("train"),
            batch_size=3,
            seed=seed,
            positive="above_zero",
            prefetch=prefetch,
        )
        return list(reader.epoch(number))

    first = epoch(0, 4, 1)
    assert all(map(equal, first, epoch(0, 4, 3)))
    assert [b.query_ids for b in first] != [b.query_ids for b in epoch(0, 5, 1)]
    assert [b.query_ids for b in first] != [b.query_ids for b in epoch(1, 4, 1)]
    seen = sorted(query_id for batch in first for query_id in batch.query_ids)
    assert seen == sorted(annotation.query_id for annotation in store.annotations("train"))


def test_eight_bit_features_arrive_decoded(tmp_path: Path) -> None:
    exact = make_store(tmp_path / "exact.zarr")
    small = make_store(tmp_path / "small.zarr", dtype="int8")
    pairs = zip(
        FeatureReader(exact, exact.annotations(), batch_size=4).in_order(),
        FeatureReader(small, small.annotations(), batch_size=4).in_order(),
        strict=True,
    )
    for a, b in pairs:
        step = (a.video.float().max() - a.video.float().min()) / 255
        assert b.video.dtype == torch.float32
        assert 0 < (a.video.float() - b.video).abs().max() < step


def test_what_is_left_out_is_counted(store: FeatureStore) -> None:
    moments = np.array([[0.0, 1e6]])
    known, absent = (
        Annotation("v0-0", video_id, "sentence", moments) for video_id in ("v0", "elsewhere")
    )
    with pytest.warns(AnnotationWarning) as caught:
        reader = FeatureReader(store, [known, absent], batch_size=1, positive="above_zero")
    assert [str(warning.message) for warning in caught] == [
        "1 queries are left out: the store lacks their videos (elsewhere)",
        "1 moments were clamped to their video or widened to one frame",
    ]
    assert reader.annotations == [known]
    with pytest.warns(AnnotationWarning, match=r"videos under 20 s \(v0, v1\)"):
        FeatureReader(store, store.annotations("train"), batch_size=1, min_duration_seconds=20)
