"""A step whose gradient is too large for its numbers must leave the weights as they were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

import torch

from gpu_check.inputs import random_batch
from gpu_check.report import Report
from gpu_check.setting import Setting
from r2t.train.choices import Precision
from r2t.train.data.batch import Batch
from r2t.train.model.model import R2Model
from r2t.train.run.config import TrainConfig
from r2t.train.run.presets import find_preset
from r2t.train.run.records import EpochRecord
from r2t.train.training.execution import Execution
from r2t.train.training.trainer import train_on_batches

HUGE = 1e38  # a weight of the loss, which stays finite; its gradients do not
STEPS = 2


class Repeated:
    """The same batch so many times an epoch."""

    def __init__(self, batch: Batch, times: int) -> None:
        self.batch, self.times = batch, times

    def __len__(self) -> int:
        return self.times

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield the rest of an epoch."""
        for _ in range(start, self.times):
            yield self.batch


def train_config(setting: Setting, precision: Precision) -> TrainConfig:
    """Return QVHighlights' settings for the features of this check."""
    config = find_preset("qvhighlights").train_config()
    return replace(config, model=setting.sizes.model(), precision=precision)


def run(setting: Setting, report: Report) -> None:
    """Check each precision of a training."""
    precisions: tuple[Precision, ...] = get_args(Precision)
    for precision in precisions if setting.on_gpu else precisions[:1]:  # all alike on a CPU
        name = f"infinite gradient, {precision}"
        report.verify(name, lambda n=name, p=precision: _skips(setting, report, n, p))


def _skips(setting: Setting, report: Report, name: str, precision: Precision) -> None:
    config = train_config(setting, precision)
    config = replace(
        config,
        losses=replace(config.losses, classification_weight=HUGE),
        schedule=replace(config.schedule, warmup_iterations=0),
        epochs=1,
    )
    batch = random_batch(setting.sizes, 2)
    records: list[EpochRecord] = []
    execution = Execution(device=setting.device, on_epoch=records.append)
    folder = setting.folder / f"infinite-{precision}"
    found = train_on_batches(
        config, Repeated(batch, STEPS), folder, execution=execution
    ).load_model("last")
    torch.manual_seed(config.seed)
    initial = R2Model(config.model).state_dict()
    weights = found.state_dict()
    moved = [key for key, value in weights.items() if not torch.equal(value, initial[key])]
    text = f"{records[0].skipped_steps} of {STEPS} steps skipped, {len(moved)} weights moved"
    report.check(name, text, holds=not moved and records[0].skipped_steps == STEPS)
