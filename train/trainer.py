"""The training loop: epochs, checkpoints, exact resume, early stopping.

It neither reads features nor knows any metric: batches and an evaluation are handed in. A run can
be interrupted at any time and goes on from the last finished epoch, ending in the weights it would
have reached without the interruption.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from r2t.store.errors import ConfigError, R2TError
from r2t.train.batch import Batch
from r2t.train.checkpoint import INITIAL, RunFolder, random_state, restore_random_state
from r2t.train.config import TrainConfig
from r2t.train.losses import compute_losses
from r2t.train.model import R2Model

AUTOCAST_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class TrainingError(R2TError, ArithmeticError):
    """Training left the numbers that floating point can hold."""


@runtime_checkable
class BatchSource(Protocol):
    """Labelled batches, one pass after another; `FeatureReader` is one."""

    def __len__(self) -> int:
        """Return the number of batches of a pass."""
        ...

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield one pass over the samples, in an order that depends on nothing but its number."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on validation data; the best checkpoint has the highest `score`."""

    score: float
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EpochRecord:
    """One line of metrics.jsonl; epochs count from 0, losses are means over the epoch.

    `skipped_steps` had gradients that overflowed, which mixed precision does now and then until it
    has found its scale; `gradient_norm` is the mean of the others, before clipping.
    """

    epoch: int
    iteration: int
    learning_rate: float
    seconds: float
    losses: dict[str, float]
    gradient_norm: float
    skipped_steps: int
    score: float | None
    metrics: dict[str, float]
    is_best: bool


@dataclass
class Progress:
    """Counters that a resumed run continues."""

    epoch: int = 0
    iteration: int = 0
    best_score: float | None = None
    epochs_since_best: int = 0


def train(
    config: TrainConfig,
    batches: BatchSource,
    run_folder: Path,
    *,
    evaluate: Callable[[R2Model], Evaluation] | None = None,
    trained_on: Mapping[str, Any] | None = None,
    resume: bool = False,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> RunFolder:
    """Train a model and leave everything about the run in its folder.

    `evaluate` is called after each epoch with the model to be saved, in evaluation mode; without it
    the latest weights count as the best. `trained_on` describes the features, such as the store's
    digest, and must be the same when the run is resumed. Seeds torch's global generator.
    """
    if len(batches) == 0:
        raise ConfigError("there is nothing to train on: the training split has no samples")
    folder = RunFolder(run_folder)
    folder.claim(config, trained_on or {}, resume=resume)
    run = _Run(config, torch.device(device))
    if resume and folder.has_state():
        run.load(folder)
    elif INITIAL in (trained_on or {}):
        run.begin_with(folder.load_initial())
    folder.cut_metrics(run.progress.epoch)
    writer = SummaryWriter(str(run_folder / "tensorboard"), purge_step=run.progress.epoch)
    try:
        while run.progress.epoch < config.epochs and not run.exhausted():
            record = run.train_epoch(batches, evaluate)
            folder.append_metrics(dataclasses.asdict(record))
            folder.save_weights("last", run.evaluated)
            if record.is_best:
                folder.save_weights("best", run.evaluated)
            run.save(folder)
            _log(writer, record)
            if on_epoch is not None:
                on_epoch(record)
    finally:
        writer.close()
    return folder


class _Run:
    """What changes while a run trains."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.device = device
        self.model = R2Model(config.model).to(device)
        # All of them decay, biases and norms too, as in the official training.
        self.optimizer = torch.optim.AdamW(
            [parameter for parameter in self.model.parameters() if parameter.requires_grad],
            weight_decay=config.weight_decay,
        )
        self.autocast_dtype = AUTOCAST_DTYPES.get(config.precision)
        self.mixed = device.type == "cuda" and self.autocast_dtype is not None
        self.scaler = torch.amp.GradScaler(
            device.type, enabled=self.mixed and config.precision == "float16"
        )
        self.averaged = copy.deepcopy(self.model).eval() if config.ema_decay is not None else None
        self.progress = Progress()

    @property
    def evaluated(self) -> R2Model:
        """The model to evaluate and save: the averaged one if there is one."""
        return self.model if self.averaged is None else self.averaged

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        """Start from another run's weights instead of random ones."""
        self.model.load_state_dict(dict(weights))
        if self.averaged is not None:
            self.averaged.load_state_dict(dict(weights))

    def exhausted(self) -> bool:
        """Return whether patience has run out."""
        patience = self.config.patience
        return patience is not None and self.progress.epochs_since_best >= patience

    def train_epoch(
        self, batches: BatchSource, evaluate: Callable[[R2Model], Evaluation] | None
    ) -> EpochRecord:
        """Train for one epoch, evaluate, and count it as finished."""
        started = time.perf_counter()
        epoch, repeats = self.progress.epoch, self.config.repeats
        sums: dict[str, Tensor] = {}
        steps = 0
        self.model.train()
        for repeat in range(repeats):
            for batch in batches.epoch(epoch * repeats + repeat):
                for name, value in self._step(batch, len(batches) * repeats).items():
                    sums[name] = sums[name] + value if name in sums else value
                steps += 1
        totals = {name: value.item() for name, value in sums.items()}
        norm, skipped = totals.pop("gradient_norm"), int(totals.pop("skipped"))
        means = {name: total / steps for name, total in totals.items()}
        if not math.isfinite(means["total"]):
            raise TrainingError(
                f"the loss became {means['total']} in epoch {epoch}: lower the learning rate or "
                f"set precision to 'float32' (it is {self.config.precision!r})"
            )
        evaluation = None
        if evaluate is not None:
            with torch.no_grad():
                evaluation = evaluate(self.evaluated.eval())
        is_best = self._count_epoch(evaluation)
        return EpochRecord(
            epoch=epoch,
            iteration=self.progress.iteration,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            seconds=time.perf_counter() - started,
            losses=means,
            gradient_norm=norm / max(1, steps - skipped),
            skipped_steps=skipped,
            score=None if evaluation is None else evaluation.score,
            metrics={} if evaluation is None else dict(evaluation.metrics),
            is_best=is_best,
        )

    def _step(self, batch: Batch, iterations_per_epoch: int) -> dict[str, Tensor]:
        """Update the weights by one batch; return its losses without waiting for the device."""
        batch = batch.to(self.device)
        if batch.targets is None:
            raise ConfigError(f"{batch!r}: training needs labels")
        rate = self.config.schedule.rate(self.progress.iteration, iterations_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device.type, dtype=self.autocast_dtype, enabled=self.mixed):
            predictions = self.model(batch)
        losses = compute_losses(predictions, batch.targets, self.config.losses)
        self.optimizer.zero_grad()
        self.scaler.scale(losses.total).backward()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._average()
        self.progress.iteration += 1
        skipped = ~norm.isfinite()
        terms = {
            **losses.terms(),
            "total": losses.total,
            "gradient_norm": norm.masked_fill(skipped, 0),
            "skipped": skipped.int(),
        }
        return {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def _average(self) -> None:
        if self.averaged is None or self.config.ema_decay is None:
            return
        for mean, current in zip(self.averaged.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(current, 1 - self.config.ema_decay)

    def _count_epoch(self, evaluation: Evaluation | None) -> bool:
        progress = self.progress
        progress.epoch += 1
        if evaluation is None:
            return True
        is_best = progress.best_score is None or evaluation.score > progress.best_score
        if is_best:
            progress.best_score = evaluation.score
        progress.epochs_since_best = 0 if is_best else progress.epochs_since_best + 1
        return is_best

    def save(self, folder: RunFolder) -> None:
        """Write the state after a finished epoch."""
        parts = {
            "model": self.model.state_dict(),
            "averaged": {} if self.averaged is None else self.averaged.state_dict(),
            "random": random_state(self.device),
            "optimizer": {
                f"{index}.{name}": torch.as_tensor(value)
                for index, moments in self.optimizer.state_dict()["state"].items()
                for name, value in moments.items()
            },
        }
        tensors = {f"{part}/{key}": value for part in parts for key, value in parts[part].items()}
        counters = {
            "progress": dataclasses.asdict(self.progress),
            "scaler": self.scaler.state_dict(),
        }
        folder.save_state(tensors, counters)

    def load(self, folder: RunFolder) -> None:
        """Continue from what `save` wrote."""
        tensors, counters = folder.load_state()
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, _, key = name.partition("/")
            parts.setdefault(part, {})[key] = tensor
        self.model.load_state_dict(parts["model"])
        if self.averaged is not None:
            self.averaged.load_state_dict(parts["averaged"])
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in parts.get("optimizer", {}).items():
            index, _, name = key.partition(".")
            moments.setdefault(int(index), {})[name] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if counters["scaler"]:
            self.scaler.load_state_dict(counters["scaler"])
        self.progress = Progress(**counters["progress"])
        restore_random_state(parts["random"], self.device)


def _log(writer: SummaryWriter, record: EpochRecord) -> None:
    scalars = {f"loss/{name}": value for name, value in record.losses.items()}
    scalars |= {f"metric/{name}": value for name, value in record.metrics.items()}
    scalars |= {"learning_rate": record.learning_rate, "gradient_norm": record.gradient_norm}
    for name, value in scalars.items():
        writer.add_scalar(name, value, record.epoch)
    writer.flush()
