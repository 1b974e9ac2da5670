"""A model with a prior, asked in every way there is: it is always that of the whole video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stub_gpu import StubGpu
from tiny_config import tiny_config
from toy_store import make_store

from r2t.store import FeatureStore
from r2t.store.errors import ConfigError
from r2t.store.schema import EmbeddingSpec
from r2t.train.data.prior import prior_features
from r2t.train.data.reading import Reading
from r2t.train.grounding.ground_store import StoredQueries
from r2t.train.grounding.grounder import Grounder
from r2t.train.grounding.presence_choice import choose_presence_rule
from r2t.train.grounding.search import search_store
from r2t.train.grounding.stored_windows import ground_stored
from r2t.train.grounding.windows import WindowPlan
from r2t.train.model.decode import Grounding
from r2t.train.model.model import Predictions, R2Model, Refined
from r2t.train.run.trained_on import TrainedOn

LENGTHS = (12, 9, 40, 14)
PLAN = WindowPlan(8)  # up to 16 frames are asked whole


class Listening(R2Model):
    """Remembers the prior of everything that it is asked."""

    heard: list[np.ndarray]

    def read(self, refined: Refined, prior: torch.Tensor | None = None) -> Predictions:
        assert prior is not None
        self.heard.append(prior.numpy())
        return super().read(refined, prior)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    path = tmp_path_factory.mktemp("prior") / "feats.zarr"
    return make_store(path, lengths=LENGTHS, embedding=EmbeddingSpec(24))


def make_grounder(store: FeatureStore) -> Grounder:
    config = tiny_config(store, prior="on").with_prior(has_embeddings=True)
    torch.manual_seed(0)
    model = Listening(config.model)
    model.heard = []
    return Grounder(model, config, store.spec, TrainedOn(longest_num_frames=32))


def heard_by(grounder: Grounder) -> list[np.ndarray]:
    assert isinstance(grounder.model, Listening)
    heard, grounder.model.heard = grounder.model.heard, []
    return heard


def whole_prior(store: FeatureStore, video_id: str, query_id: str) -> np.ndarray:
    sentence = store.read_query(query_id).embedding
    assert sentence is not None
    return prior_features(store.read_embedding(video_id), sentence)


def assert_same(found: list[Grounding], expected: list[Grounding]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.saliency, theirs.saliency, atol=1e-5)
        np.testing.assert_allclose(ours.moments, theirs.moments, atol=1e-4)


def test_every_window_of_a_long_video_has_its_part_of_the_whole_videos_prior(
    store: FeatureStore,
) -> None:
    grounder = make_grounder(store)
    ids = ["v2-0", "v0-1"]
    queries = [store.read_query(query_id) for query_id in ids]
    expected = np.stack([whole_prior(store, "v2", query_id) for query_id in ids])
    windows = PLAN.windows(40)
    read_ahead = ground_stored(grounder, store, {"v2": ids}, PLAN, Reading())
    ways = (
        lambda: grounder.ground(store.open_video("v2"), queries, PLAN),
        lambda: grounder.ground(grounder.prepare(store.open_video("v2"), PLAN), queries),
        lambda: next(read_ahead),
    )
    answers: list[list[Grounding]] = []
    for ask in ways:
        answers.append(ask())
        heard = heard_by(grounder)
        assert len(heard) == len(windows) > 1
        for part, window in zip(heard, windows, strict=True):
            np.testing.assert_array_equal(part, expected[:, window])
    for other in answers[1:]:
        assert_same(other, answers[0])


def test_batches_answer_as_one_video_does(store: FeatureStore) -> None:
    grounder = make_grounder(store)
    rows = store.annotations()
    alone = {
        row.query_id: grounder(store.read_video(row.video_id), store.read_query(row.query_id))
        for row in rows
    }
    stored = StoredQueries(store, rows, WindowPlan(None), batch_size=3, prior=True)
    found = stored.ground(grounder)
    assert_same([found[query_id] for query_id in alone], list(alone.values()))
    query = store.read_query("v1-0")
    for answer in search_store(grounder, store, query, batch_size=3, plan=PLAN):
        video = store.open_video(answer.video_id)
        [expected] = grounder.ground(video, [query], PLAN)
        assert answer.score == pytest.approx(expected.video_score, abs=1e-5)
    own = [replace(row, query=row.query_id) for row in rows]  # no two videos share a sentence
    rule = choose_presence_rule(grounder, store, own, plan=PLAN)
    assert rule.num_present == len(rows)


def test_what_lacks_embeddings_is_refused(store: FeatureStore, tmp_path: Path) -> None:
    grounder = make_grounder(store)
    plain = make_store(tmp_path / "plain.zarr", lengths=LENGTHS)
    video, query = store.read_video("v0"), store.read_query("v0-0")
    bare: dict[str, Any] = {"embedding": None}
    with pytest.raises(ConfigError, match=r"VideoFeatures\('v0'.*has no embedding"):
        grounder(replace(video, **bare, embedding_from=""), query)
    with pytest.raises(ConfigError, match=r"QueryFeatures\('v0-0'.*has no embedding"):
        grounder(video, replace(query, **bare))
    rows = plain.annotations()
    asked = {"v0": ["v0-0"]}
    for ask in (
        lambda: list(search_store(grounder, plain, query)),
        lambda: list(ground_stored(grounder, plain, asked, PLAN, Reading())),
        lambda: StoredQueries(plain, rows, PLAN, batch_size=2, prior=True),
        lambda: choose_presence_rule(grounder, plain, rows),
    ):
        with pytest.raises(ConfigError, match=r"plain\.zarr has no embeddings.*r2t store upgrade"):
            ask()


def test_a_video_prepared_by_a_model_without_is_refused(store: FeatureStore) -> None:
    grounder = make_grounder(store)
    config = tiny_config(store)
    other = Grounder(R2Model(config.model), config, store.spec, TrainedOn())
    prepared = other.prepare(store.read_video("v0"))
    with pytest.raises(ConfigError, match="prepared by a model without a prior"):
        grounder(prepared, store.read_query("v0-0"))


def test_search_on_a_gpu_has_room_for_it(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    grounder = make_grounder(store)
    query = store.read_query("v0-0")
    expected = {each.video_id: each.score for each in search_store(grounder, store, query)}
    gpu = StubGpu()
    monkeypatch.setattr("r2t.train.data.reading.CudaTransfer", lambda device: gpu)
    monkeypatch.setattr(Grounder, "device", torch.device("cuda"))
    found = {each.video_id: each.score for each in search_store(grounder, store, query)}
    assert found == pytest.approx(expected, abs=1e-6)
