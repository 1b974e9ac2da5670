"""A configuration that trains in seconds on a store of `toy_store`."""

from __future__ import annotations

from dataclasses import replace

from r2t.store import FeatureStore
from r2t.train.model.config import R2Config
from r2t.train.run.config import TrainConfig
from r2t.train.run.presets import find_preset


def tiny_config(store: FeatureStore, **changes: object) -> TrainConfig:
    """Return QVHighlights settings at toy size for a toy store."""
    spec = store.spec
    config = find_preset("qvhighlights").train_config(num_layers=spec.num_layers)
    return replace(
        config,
        model=R2Config(
            num_layers=spec.num_layers,
            vision_width=spec.vision_width,
            text_width=spec.text_width,
            width=16,
            num_heads=2,
        ),
        **{"epochs": 2, "repeats": 1, "batch_size": 4, **changes},
    )


def undisturbed_config(store: FeatureStore) -> TrainConfig:
    """Return settings without dropout, whose last batch is of one sample.

    The model takes a prior where the store has embeddings.
    """
    config = tiny_config(store, epochs=3, batch_size=7, prior="auto")
    return replace(config, model=replace(config.model, dropout=0.0, drop_path=0.0))
