"""Presets against the official configurations, and configurations as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from r2t.store.errors import ConfigError
from r2t.train.choices import Recipe
from r2t.train.run.config import TrainConfig
from r2t.train.run.own_data import OWN_PRESET
from r2t.train.run.presets import PRESETS, find_preset

# lr, epochs, steps, repeats, batch, warm-up, dropout, fps, unit, suppression, official saliency,
# shortest video
OFFICIAL = {
    "qvhighlights": (5e-4, 30, (20,), 4, 128, 500, 0.5, 0.5, 2, "hard", 0.1, 5),
    "charades": (2.5e-4, 50, (30,), 1, 32, 500, 0.35, 1, 0.1, "linear", 0.01, 5),
    "ego4d": (2.5e-4, 30, (20,), 1, 32, 500, 0.3, 0.5, None, "linear", 0.1, 5),
    "tacos": (2.5e-4, 100, (50,), 1, 32, 500, 0.5, 0.5, None, "linear", 0.05, 5),
    "youtube": (5e-4, 200, (), 1, 4, 50, 0.5, "per-video", None, "linear", 0.1, 0),
    "tvsum": (5e-4, 500, (), 1, 4, 50, 0.5, 0.5, None, "linear", 0.1, 0),
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_the_official_settings(name: str) -> None:
    config = find_preset(name).train_config(recipe="official")
    assert (
        config.schedule.learning_rate,
        config.epochs,
        config.schedule.step_epochs,
        config.repeats,
        config.batch_size,
        config.schedule.warmup_iterations,
        config.model.dropout,
        find_preset(name).frame_rate,
        config.decoding.unit_seconds,
        config.decoding.suppression,
        config.losses.saliency_weight,
        config.min_duration_seconds,
    ) == OFFICIAL[name]
    highlights = name in ("youtube", "tvsum")
    assert config.model.boundary_head == (not highlights)
    assert config.model.temporal_features == (not highlights)
    assert config.decoding.cosine_saliency == (not highlights)
    assert config.model.strides == ((1,) if highlights else (1, 2, 4, 8))
    assert config.losses.classification == ("saliency" if highlights else "focal")
    assert config.losses.contrast == ("row" if highlights else "row+column")
    assert config.losses.boundary_weight == 0.2
    assert config.losses.focal_alpha is None
    assert (config.weight_decay, config.gradient_clip) == (1e-4, 35)
    assert (config.model.padding, config.sampling) == ("official", "joint")
    assert (config.model.prior, config.prior) == (False, "off")


@pytest.mark.parametrize("name", PRESETS)
def test_the_paper_recipe_is_the_default(name: str) -> None:
    config = find_preset(name).train_config()
    assert (config.model.padding, config.sampling) == ("independent", "uniform")
    assert (config.model.prior, config.prior) == (False, "off")
    losses = config.losses
    assert losses.recipe == "paper"
    assert (losses.focal_alpha, losses.focal_gamma, losses.temperature) == (0.9, 2, 0.07)
    assert losses.classification_weight == 1
    assert losses.boundary_weight == losses.saliency_weight == 0.1
    assert losses.video_weight == losses.layer_weight == 0.1


def test_an_official_epoch_of_qvhighlights_has_226_iterations() -> None:
    config = find_preset("qvhighlights").train_config(recipe="official")
    assert config.num_iterations(7218) == 226 * 30
    assert find_preset("charades").train_config(recipe="official").num_iterations(12404) == 388 * 50


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'qvh'.*qvhighlights, charades"):
        find_preset("qvh")


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("recipe", ["paper", "official"])
def test_configurations_survive_json(name: str, recipe: Recipe) -> None:
    config = find_preset(name).train_config(recipe=recipe, num_layers=2, vision_width=1024, seed=7)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def changed(path: str, value: Any) -> dict[str, Any]:
    values = find_preset("charades").train_config().to_dict()
    *parents, name = path.split(".")
    part = values
    for parent in parents:
        part = part[parent]
    part[name] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("epoch", 3, "epoch is unknown"),
        ("model.depth", 3, "depth is unknown"),
        ("epochs", "30", "epochs = '30', expected"),
        ("epochs", 30.5, "epochs = 30.5, expected a whole number"),
        ("windows", "some", "windows = 'some', expected auto, off or a whole number"),
        ("patience", "3", "patience = '3', expected a whole number or null"),
        ("ema_decay", "no", "ema_decay = 'no', expected a number or null"),
        ("schedule.step_epochs", ["2"], "expected a list, each a whole number"),
        ("epochs", True, "epochs = True, expected"),
        ("weight_decay", True, "weight_decay = True, expected"),
        ("epochs", 0, "epochs = 0: must be positive"),
        ("patience", 0, "patience = 0: must be positive, or None"),
        ("ema_decay", 1.0, "ema_decay = 1.0: must be in"),
        ("precision", "float8", "precision = 'float8'"),
        ("model", [1], r"model is \[1\], expected named settings"),
        ("model.strides", [1, "2"], "strides = .*expected"),
        ("model.strides", [2], "strides = .*give"),
        ("model.padding", "none", "padding = 'none'"),
        ("losses.classification", "saliency", "needs one point per frame"),
        ("decoding.unit_seconds", "2", "unit_seconds = '2'"),
        ("prior", True, "prior = True, expected auto, on, off"),
        ("model.prior", True, "model.prior is true, but prior = 'off': set prior to 'on'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_dict(changed(path, value))


def test_missing_settings_are_refused() -> None:
    values = find_preset("tacos").train_config().to_dict()
    del values["seed"], values["losses"]["temperature"]
    with pytest.raises(ConfigError, match="seed is missing"):
        TrainConfig.from_dict(values)


def test_runs_of_earlier_versions_read_as_what_they_did() -> None:
    config = TrainConfig(preset="qvhighlights", evaluator="qvhighlights")
    values = config.to_dict()
    del values["sampling"], values["windows"]
    del values["model"]["direction"], values["model"]["pooling"]
    del values["prior"], values["model"]["prior"]
    assert TrainConfig.from_dict(values) == config
    values["model"]["direction"] = "sideways"
    with pytest.raises(ConfigError, match="sideways"):
        TrainConfig.from_dict(values)


@pytest.mark.parametrize("has_embeddings", [False, True])
def test_the_prior_is_settled_by_what_a_store_has(has_embeddings: bool) -> None:
    def settled(config: TrainConfig) -> bool:
        found = config.with_prior(has_embeddings=has_embeddings)
        assert found.prior == ("on" if found.model.prior else "off")
        assert found.with_prior(has_embeddings=not has_embeddings) == found
        return found.model.prior

    own = OWN_PRESET.train_config()
    assert own.prior == "auto"
    assert settled(own) == has_embeddings
    assert settled(replace(own, model=replace(own.model, prior=True)))
    for name in PRESETS:
        config = find_preset(name).train_config()
        assert not settled(config)
        assert settled(replace(config, prior="on"))


def test_optional_settings_may_be_null_or_given() -> None:
    config = replace(find_preset("tacos").train_config(), ema_decay=0.99, patience=3)
    assert TrainConfig.from_dict(config.to_dict()) == config
