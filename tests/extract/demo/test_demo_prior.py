"""What the prior is worth on a little of the demo world, trained for seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from r2t.cli.commands.demo.scores import OURS, SHUFFLED, score_model
from r2t.cli.commands.demo.steps import demo_config
from r2t.extract.clip.clip import FrozenClip
from r2t.extract.clip.similarity import frame_similarity
from r2t.store import FeatureStore
from r2t.train.choices import PriorChoice
from r2t.train.data.prior import prior_features
from r2t.train.grounding.grounder import Grounder
from r2t.train.training.fit import Splits, train_model


def test_it_is_clips_own_similarity(world: tuple[FrozenClip, FeatureStore]) -> None:
    clip, store = world
    video_id = next(iter(store))
    rows = [row for row in store.annotations() if row.video_id == video_id]
    queries = [store.read_query(row.query_id) for row in rows]
    cosines = frame_similarity(clip, store.read_video(video_id), queries)[:, :, 0]
    for expected, query in zip(cosines, queries, strict=True):
        assert query.embedding is not None
        found = prior_features(store.read_embedding(video_id), query.embedding)
        np.testing.assert_allclose(found[:, 0], 10 * expected, atol=0.02)


def train(store: FeatureStore, folder: Path, prior: PriorChoice) -> dict[str, float]:
    """Return mAP on the test split, of its own sentences and of others'."""
    config = demo_config(store, epochs=6, seed=0)
    config = replace(
        config,
        prior=prior,
        batch_size=16,
        model=replace(config.model, width=32, num_heads=2),
        schedule=replace(config.schedule, learning_rate=5e-3, warmup_iterations=5),
    )
    train_model(config, store, Splits(store.annotations("val"), [], held_out=False), folder)
    grounder = Grounder.load(folder)
    assert grounder.has_prior == (prior == "on")
    scores = score_model(grounder, store, np.random.default_rng(0))
    return {name: float(each.metrics()["MR-full-mAP"].mean()) for name, each in scores.items()}


def test_with_it_a_few_videos_teach_a_model_to_read_sentences(
    world: tuple[FrozenClip, FeatureStore], tmp_path: Path
) -> None:
    _, store = world
    without, with_prior = (train(store, tmp_path / name, name) for name in ("off", "on"))
    assert with_prior[OURS] > 2 * without[OURS]
    assert with_prior[OURS] > 2 * with_prior[SHUFFLED]
