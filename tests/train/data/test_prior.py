"""The prior of a frame and a sentence: numbers that are known, and what readers make of a store."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stub_gpu import StubGpu
from toy_store import make_store

from r2t.store import FeatureStore
from r2t.store.errors import ConfigError
from r2t.store.schema import EmbeddingSpec
from r2t.train.choices import CacheKind, SampleOrder
from r2t.train.data.batch import Batch
from r2t.train.data.prior import pad_priors, prior_features
from r2t.train.data.reader import FeatureReader
from r2t.train.data.reading import Reading
from r2t.train.data.sampling import EpochOrder
from r2t.train.data.video_cache import VideoCache

EMBEDDING = EmbeddingSpec(24)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("prior") / "feats.zarr", embedding=EMBEDDING)


def unit(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float16)


def test_it_is_the_cosine_as_it_is_and_standardised() -> None:
    frames = unit(0, 60, 90, 120)
    prior = prior_features(frames, unit(0)[0])
    cosines = np.array([1, 0.5, 0, -0.5])
    np.testing.assert_allclose(prior[:, 0], 10 * cosines, atol=5e-3)
    expected = (cosines - cosines.mean()) / cosines.std()
    np.testing.assert_allclose(prior[:, 1], expected, atol=2e-3)
    assert prior.dtype == np.float32
    # Lengths do not count, so rounding them to float16 does not either.
    np.testing.assert_allclose(prior_features(2 * frames, unit(0)[0]), prior, atol=5e-3)


@pytest.mark.parametrize("num_frames", [1, 5])
def test_a_video_that_stands_still_has_no_deviation(num_frames: int) -> None:
    rng = np.random.default_rng(0)
    frame, sentence = rng.standard_normal((2, 64)).astype(np.float16)
    prior = prior_features(np.tile(frame, (num_frames, 1)), sentence)
    assert (prior[:, 1] == 0).all()
    assert (prior[:, 0] == prior[0, 0]).all()
    assert prior[0, 0] != 0


def test_nothing_is_no_number_where_an_embedding_is_zero() -> None:
    zeros = np.zeros((3, 2), np.float16)
    assert (prior_features(zeros, unit(0)[0]) == 0).all()
    assert (prior_features(unit(0, 90), zeros[0]) == 0).all()


def test_embeddings_of_two_widths_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 channels for frames and 3 for the sentence"):
        prior_features(unit(0, 90), np.ones(3, np.float16))


def expected_prior(store: FeatureStore, batch: Batch) -> torch.Tensor:
    """What a batch should have, from whole videos."""
    found = []
    for query_id, count in zip(batch.query_ids, batch.num_frames.tolist(), strict=True):
        sentence = store.read_query(query_id).embedding
        assert sentence is not None
        whole = prior_features(store.read_embedding(query_id.split("-")[0]), sentence)
        found.append(whole[:count])
    return pad_priors(found, batch.videos.shape[2])


@pytest.mark.parametrize("sampling", ["uniform", "video"])
@pytest.mark.parametrize("cache", [None, "ram", "gpu"])
@pytest.mark.parametrize("rank", [None, 0, 1])
def test_batches_have_it_however_they_are_read(
    store: FeatureStore, sampling: SampleOrder, cache: CacheKind | None, rank: int | None
) -> None:
    gpu = StubGpu() if cache == "gpu" else None
    kept = None if cache is None else VideoCache(cache, torch.device("cpu"), transfer=gpu)
    reader = FeatureReader(
        store,
        store.annotations("train"),
        batch_size=5,
        positive="above_zero",
        prior=True,
        order=EpochOrder(sampling=sampling, repeats=2),
        reading=Reading(
            cache=kept, transfer=gpu, rank=rank or 0, num_ranks=1 if rank is None else 2
        ),
    )
    for number in range(2):
        for batch in reader.epoch(number):
            assert batch.prior is not None
            assert batch.prior.dtype == torch.float32
            assert torch.equal(batch.prior, expected_prior(store, batch))
    for batch in reader.in_order():
        assert batch.prior is not None
        assert torch.equal(batch.prior, expected_prior(store, batch))


def test_it_is_that_of_the_whole_video_where_annotations_cut_it(store: FeatureStore) -> None:
    [annotation] = store.annotations("train")[:1]
    assert annotation.saliency is not None
    cut = replace(annotation.saliency, scores=annotation.saliency.scores[:5])
    rows = [replace(annotation, saliency=cut)]
    reader = FeatureReader(store, rows, batch_size=1, positive="above_zero", prior=True)
    [batch] = reader.epoch(0)
    assert batch.num_frames.tolist() == [5] < [len(store.read_embedding(annotation.video_id))]
    assert batch.prior is not None
    assert torch.equal(batch.prior, expected_prior(store, batch))


def test_embeddings_are_read_once_and_only_where_they_are_wanted(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Counter[str]()
    read = store.read_embedding

    def counted(video_id: str) -> np.ndarray:
        asked[video_id] += 1
        return read(video_id)

    monkeypatch.setattr(store, "read_embedding", counted)
    for prior in (False, True):
        reader = FeatureReader(store, store.annotations(), batch_size=4, prior=prior)
        for _ in range(2):
            for batch in reader.in_order():
                assert (batch.prior is not None) == prior
        videos = {annotation.video_id for annotation in store.annotations()}
        assert asked == (dict.fromkeys(videos, 1) if prior else {})


def test_a_store_without_embeddings_is_refused_with_what_to_do(tmp_path: Path) -> None:
    plain = make_store(tmp_path / "feats.zarr")
    with pytest.raises(ConfigError, match=r"has no embeddings.*r2t store upgrade .*feats\.zarr"):
        FeatureReader(plain, plain.annotations(), batch_size=4, prior=True)
