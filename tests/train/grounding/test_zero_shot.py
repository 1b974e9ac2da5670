"""Answers without training: the same from features, a source, a store; and better than chance."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_config import tiny_config
from toy_store import make_store

from r2t.extract.clip.clip import FrozenClip
from r2t.extract.demo.baselines import random_moments, whole_video
from r2t.store import FeatureStore
from r2t.store.annotations import Annotation
from r2t.store.errors import AnnotationWarning, ConfigError, CorruptFeatureError
from r2t.store.features import FrameSource, VideoFeatures
from r2t.store.schema import EmbeddingSpec
from r2t.train.grounding.grounder import Grounder
from r2t.train.grounding.search import search_store
from r2t.train.grounding.stored_similarity import EmbeddedQueries
from r2t.train.grounding.zero_shot import FROZEN_LABEL, ZeroShotGrounder
from r2t.train.metrics.bootstrap import bootstrap_intervals
from r2t.train.metrics.evaluators import score_queries
from r2t.train.metrics.submission import SubmissionRow
from r2t.train.model.model import R2Model
from r2t.train.run.trained_on import TrainedOn

LENGTHS = (12, 9, 150, 14)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    path = tmp_path_factory.mktemp("zero-shot") / "feats.zarr"
    return make_store(path, lengths=LENGTHS, embedding=EmbeddingSpec(24))


def test_features_a_source_and_a_search_give_the_same_answer(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    grounder, query = ZeroShotGrounder.of_store(store), store.read_query("v0-0")
    expected = {video_id: grounder(store.read_video(video_id), query) for video_id in store}
    sources = {video_id: grounder(store.open_video(video_id), query) for video_id in store}
    monkeypatch.delattr(FeatureStore, "locate_video")  # which every reader of tokens uses
    found = {each.video_id: each.grounding for each in search_store(grounder, store, query)}
    assert found.keys() == expected.keys()
    for video_id, answer in expected.items():
        for other in (sources[video_id], found[video_id]):
            assert other is not None
            np.testing.assert_array_equal(other.moments, answer.moments)
            np.testing.assert_array_equal(other.saliency, answer.saliency)
            assert (
                other.video_score
                == answer.video_score
                == pytest.approx(np.sort(answer.saliency)[-3:].mean())
            )
            assert other.caveat == other.to_dict()["caveat"] == FROZEN_LABEL


def test_a_long_source_is_read_in_pieces(store: FeatureStore) -> None:
    pieces: list[slice] = []
    stored = store.open_video("v2")

    def read(frames: slice) -> VideoFeatures:
        pieces.append(frames)
        return stored.read(frames)

    source = FrameSource("v2", 150, stored.duration_seconds, stored.frame_rate_fps, read)
    prepared = ZeroShotGrounder.of_store(store).prepare(source)
    assert [piece.stop - piece.start for piece in pieces] == [64, 64, 22]
    np.testing.assert_array_equal(prepared.embedding, store.read_embedding("v2"))


def test_queries_of_a_store_are_answered_from_embeddings_alone(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    grounder = ZeroShotGrounder.of_store(store)
    query, rows = store.read_query("v3-1"), store.annotations()
    expected = grounder(store.read_video("v3"), query)
    monkeypatch.delattr(FeatureStore, "locate_video")
    monkeypatch.setattr(FeatureStore, "read_query", None)
    lost = replace(rows[0], video_id="gone", query_id="gone-0")
    with pytest.warns(AnnotationWarning, match="1 queries are left out"):
        asked = EmbeddedQueries(store, [*rows, lost])
    assert asked.annotations == rows
    seen: list[tuple[float, float]] = []
    found = asked.ground(on_queries=lambda done, total: seen.append((done, total)))
    np.testing.assert_array_equal(found["v3-1"].moments, expected.moments)
    assert found.keys() == {row.query_id for row in rows}
    assert seen[-1] == (len(rows), len(rows))


def test_a_video_that_cannot_be_read_spoils_no_other(tmp_path: Path) -> None:
    store = make_store(tmp_path / "feats.zarr", embedding=EmbeddingSpec(24))
    shutil.rmtree(tmp_path / "feats.zarr/videos/v1/embedding/c")
    answers = list(search_store(ZeroShotGrounder.of_store(store), store, store.read_query("v0-0")))
    errors = {each.video_id: each.error for each in answers if each.error}
    assert errors.keys() == {"v1"}
    assert isinstance(errors["v1"], CorruptFeatureError)


def test_what_cannot_be_answered_without_training_is_refused_with_the_way_out(
    store: FeatureStore, tmp_path: Path
) -> None:
    bare = make_store(tmp_path / "bare.zarr")
    with pytest.raises(ConfigError, match=r"bare\.zarr has no embeddings.*r2t store upgrade"):
        ZeroShotGrounder.of_store(bare)
    grounder = ZeroShotGrounder.of_store(store)
    with pytest.raises(ConfigError, match=r"--windows 100.*asked whole.*--checkpoint"):
        grounder.plan(100)
    config = tiny_config(store)
    trained = Grounder(R2Model(config.model), config, store.spec, TrainedOn())
    query, video = store.read_query("v0-0"), store.read_video("v0")
    with pytest.raises(ConfigError, match="prepared by a trained model"):
        grounder(trained.prepare(video), query)
    with pytest.raises(ConfigError, match="not prepared by a trained model"):
        trained(grounder.prepare(video), query)


def test_a_clip_without_a_projection_cannot_answer(
    world: tuple[FrozenClip, FeatureStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FrozenClip, "embedding", None)
    with pytest.raises(ConfigError, match=r"r2t-demo does not project.*--model.*--checkpoint"):
        Grounder.zero_shot(world[0])


def test_a_file_is_answered_as_its_features_in_a_store(
    world: tuple[FrozenClip, FeatureStore],
) -> None:
    clip, store = world
    row = store.annotations("test")[0]
    path = Path(store.location).parent / "v" / f"{row.video_id}.mp4"
    asked = Grounder.zero_shot(clip).ask(clip, path, row.query, frame_rate_fps=1.0)
    stored = EmbeddedQueries(store, [row]).ground()[row.query_id]
    np.testing.assert_allclose(asked.saliency, stored.saliency, atol=2e-3)
    np.testing.assert_allclose(asked.moments[0, :2], stored.moments[0, :2])


def test_answers_beat_chance_and_the_whole_video(world: tuple[FrozenClip, FeatureStore]) -> None:
    _, store = world
    rows, rng = store.annotations(), np.random.default_rng(0)
    durations = {row.video_id: row.duration_seconds for row in store.video_rows()}
    answers = EmbeddedQueries(store, rows).ground()

    def mean_ap(moments: Callable[[Annotation], np.ndarray]) -> np.ndarray:
        given = [SubmissionRow(row.query_id, row.video_id, row.query, moments(row)) for row in rows]
        return score_queries(given, rows, evaluator="qvhighlights").metrics()["MR-full-mAP"]

    found = mean_ap(lambda row: answers[row.query_id].moments)
    others = {
        "chance": mean_ap(lambda row: random_moments(rng, durations[row.video_id])),
        "whole": mean_ap(lambda row: whole_video(durations[row.video_id])),
    }
    leads = {name: found - each for name, each in others.items()}
    intervals = bootstrap_intervals(leads, [row.video_id for row in rows], num_samples=1000)
    assert all(interval.low > 10 for interval in intervals.values()), intervals
