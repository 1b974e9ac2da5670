"""`recipe="official"`, from the settings to the trainer, against trainings of the official code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from tiny_config import tiny_config
from toy_store import make_store

from r2t.train.choices import Recipe
from r2t.train.data.batch import Batch
from r2t.train.model.losses import compute_losses
from r2t.train.run.config import ScheduleConfig
from r2t.train.run.presets import find_preset
from r2t.train.run.run_folder import INITIAL, RunFolder
from r2t.train.run.trained_on import InitialWeights, TrainedOn
from r2t.train.training.fit import split_annotations, train_model
from r2t.train.training.trainer import train_on_batches

TOLERANCE = 1e-5
PRESETS = {"qvh_tiny": "qvhighlights", "charades_tiny": "charades", "hd_tiny": "tvsum"}
OFFICIAL_LOSSES = {
    "classification": "loss_cls",
    "boundary": "loss_reg",
    "saliency": "loss_sal",
    "video_calibration": "loss_video_cal",
    "layer_calibration": "loss_layer_cal",
    "total": "loss",
}


@dataclass(frozen=True)
class InTurn:
    """Recorded batches in turn, one an epoch, so that an epoch's record is a step's."""

    batches: list[Batch]

    def __len__(self) -> int:
        return 1

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        assert start == 0
        yield self.batches[number % len(self.batches)]


def trained(case: Any, recipe: Recipe, folder: Path) -> list[dict[str, float]]:
    """Train as the case was recorded; return each step's losses under their official names."""
    beginning = case.model()
    sizes = beginning.config
    config = find_preset(PRESETS[case.name]).train_config(
        recipe=recipe, vision_width=sizes.vision_width, text_width=sizes.text_width
    )
    config = replace(
        config,
        # As recorded: narrow, nothing dropped, the same rate at every step.
        model=replace(config.model, width=sizes.width, dropout=0.0, drop_path=0.0),
        schedule=ScheduleConfig(learning_rate=case.meta["lr"], warmup_iterations=0),
        epochs=case.meta["steps"],
        repeats=1,
    )
    folder.mkdir()
    safetensors.torch.save_file(beginning.state_dict(), folder / INITIAL)
    batches = InTurn([case.batch(index) for index in range(case.num_batches)])
    train_on_batches(
        config, batches, folder, trained_on=TrainedOn(initial=InitialWeights("official", "0"))
    )
    return [
        {OFFICIAL_LOSSES[name]: value for name, value in record["losses"].items()}
        | {"grad_norm": record["gradient_norm"]}
        for record in RunFolder(folder).metrics()
    ]


@pytest.mark.parametrize("name", PRESETS)
def test_the_official_recipe_trains_as_the_official_code_did(
    name: str, golden: Callable[..., Any], tmp_path: Path
) -> None:
    case = golden(name)
    columns, expected = case.meta["traj_cols"], case.expected["traj/rows"]
    steps = trained(case, "official", tmp_path / "run")
    found = np.array([[step[column] for column in columns] for step in steps])
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    paper = trained(case, "paper", tmp_path / "paper")[0]
    assert abs(paper["loss"] - expected[0][columns.index("loss")]) > 1e-4


@pytest.mark.parametrize("name", PRESETS)
def test_losses_alone_do_not_make_the_official_training(
    name: str, golden: Callable[..., Any], tmp_path: Path
) -> None:
    case = golden(name)
    config = find_preset(PRESETS[name]).train_config(recipe="official")
    assert config.losses == case.losses
    model = case.model(padding="independent", dropout=0.0, drop_path=0.0).train()
    column = case.meta["traj_cols"].index("loss_sal")
    batch = case.batch(0)
    found = compute_losses(model(batch), batch.targets, config.losses).saliency.item()
    assert abs(found - case.expected["traj/rows"][0][column]) > 1e-4


@pytest.mark.parametrize(("recipe", "iterations"), [("official", 5), ("paper", 8)])
def test_an_epoch_has_as_many_iterations_as_in_the_official_code(
    recipe: Recipe, iterations: int, tmp_path: Path
) -> None:
    store = make_store(tmp_path / "feats.zarr")  # eight queries to train on
    chosen = find_preset("qvhighlights").train_config(recipe=recipe, num_layers=2)
    tiny = tiny_config(store, epochs=1, batch_size=7, repeats=chosen.repeats)
    config = replace(
        tiny,
        model=replace(tiny.model, padding=chosen.model.padding),
        losses=chosen.losses,
        sampling=chosen.sampling,
    )
    folder = train_model(config, store, split_annotations(store), tmp_path / "run")
    assert folder.metrics()[0]["iteration"] == iterations == config.num_iterations(8)
