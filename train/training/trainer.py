"""The training loop: epochs, checkpoints, exact resume, early stopping.

It neither reads features nor knows any metric: batches and an evaluation are handed in. A run that
is asked to stop (SIGINT, SIGTERM) does so after the step it is in; one that is killed goes on from
its last saved state. Either way it ends in the weights it would have reached without the
interruption.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from r2t.store.content import StoreContent
from r2t.store.errors import ConfigError, R2TError
from r2t.train.data import Batch, Targets
from r2t.train.devices import mixed_dtype, set_arithmetic
from r2t.train.model import Looks, Losses, R2Model, compute_losses
from r2t.train.run import (
    EpochRecord,
    RunFolder,
    TrainConfig,
    TrainedOn,
    ValidationScore,
)
from r2t.train.training.execution import BatchSource, Execution
from r2t.train.training.interruption import Interruption
from r2t.train.training.optimizer import Optimizer, learning_rate
from r2t.train.training.state import RunState
from r2t.train.training.stopwatch import Stopwatch, tracing

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TrainingError(R2TError, ArithmeticError):
    """Training left the numbers that floating point can hold."""


def train_on_batches(
    config: TrainConfig,
    batches: BatchSource,
    run_folder: Path,
    *,
    evaluate: Callable[[R2Model], ValidationScore] | None = None,
    trained_on: TrainedOn | None = None,
    content: StoreContent | None = None,
    execution: Execution | None = None,
) -> RunFolder:
    """Train a model and leave everything about the run in its folder.

    `evaluate` is called after each epoch with the model to be saved, in evaluation mode; without it
    the latest weights count as the best. `trained_on` says which features these are; they
    must be the same when the run is resumed, and `content` tells what has changed if they are not.
    Seeds torch's global generator. Raises KeyboardInterrupt, with the state saved, when it was
    asked to stop.
    """
    if len(batches) == 0:
        raise ConfigError("there is nothing to train on: the training split has no samples")
    execution, trained_on = execution or Execution(), trained_on or TrainedOn()
    folder = RunFolder(run_folder)
    if execution.processes.leads:
        folder.claim(
            config,
            trained_on,
            resume=execution.resume,
            content=content,
            allow_changed=execution.allow_changed,
        )
    execution.processes.wait()
    run = _Run(config, execution, folder)
    if execution.resume and folder.has_state():
        run.state.load(folder)
    elif trained_on.initial is not None:
        run.state.begin_with(folder.load_initial())
    with run.interruption.caught(), tracing(execution.trace) as traced:
        if not execution.processes.leads:
            run.train(batches, evaluate, traced, None)
            return folder
        from torch.utils.tensorboard import SummaryWriter  # which all else here does without

        epoch = run.state.progress.epoch
        folder.cut_metrics(epoch)
        writer = SummaryWriter(str(run_folder / "tensorboard"), purge_step=epoch)
        with writer:
            run.train(batches, evaluate, traced, writer)
    return folder


class _Run:
    """The loop over a run's epochs and steps."""

    def __init__(self, config: TrainConfig, execution: Execution, folder: RunFolder) -> None:
        set_arithmetic(config.precision)
        torch.manual_seed(config.seed)
        device, processes = execution.device, execution.processes
        self.config = config
        self.execution = execution
        self.folder = folder
        self.device = device
        self.looks = Looks(execution.look)
        model = R2Model(config.model, self.looks).to(device)
        if not processes.leads:  # the same weights, but other dropout
            torch.manual_seed(config.seed + processes.rank)
        self.mixed = mixed_dtype(device, config.precision)
        scaled_on = device.type if self.mixed == torch.float16 else None
        optimizer = Optimizer(model, config, scaled_on=scaled_on)
        self.state = RunState(model, optimizer, config, device, processes)
        self.interruption = Interruption()
        self.saved_at = time.perf_counter()

    def exhausted(self) -> bool:
        """Return whether patience has run out."""
        patience = self.config.patience
        return patience is not None and self.state.progress.epochs_since_best >= patience

    def train(
        self,
        batches: BatchSource,
        evaluate: Callable[[R2Model], ValidationScore] | None,
        traced: Callable[[], None],
        writer: SummaryWriter | None,
    ) -> None:
        """Train to the last epoch, or until patience runs out."""
        while self.state.progress.epoch < self.config.epochs and not self.exhausted():
            record = self.train_epoch(batches, evaluate, traced)
            if writer is not None:
                self.folder.append_metrics(dataclasses.asdict(record))
                self.folder.save_weights("last", self.state.evaluated)
                if record.is_best:
                    self.folder.save_weights("best", self.state.evaluated)
            self.save()
            if writer is not None:
                _log(writer, record)
            if self.execution.on_epoch is not None:
                self.execution.on_epoch(record)

    def train_epoch(
        self,
        batches: BatchSource,
        evaluate: Callable[[R2Model], ValidationScore] | None,
        traced: Callable[[], None],
    ) -> EpochRecord:
        """Train for one epoch, or what is left of it; evaluate, and count it as finished."""
        self._train_steps(batches, traced)
        state = self.state
        epoch, tally = state.progress.epoch, state.tally
        totals = {name: value.item() for name, value in state.sums.items()}
        norm, skipped = totals.pop("gradient_norm"), int(totals.pop("skipped"))
        means = {name: total / tally.steps for name, total in totals.items()}
        if not math.isfinite(means["total"]):
            raise TrainingError(
                f"the loss became {means['total']} in epoch {epoch}: lower the learning rate or "
                f"set precision to 'float32' (it is {self.config.precision!r})"
            )
        started = time.perf_counter()
        evaluation = None if evaluate is None else self._evaluate(evaluate)
        validation_seconds = time.perf_counter() - started
        score = None if evaluation is None else evaluation.score
        is_best = state.finish_epoch(score)
        return EpochRecord(
            epoch=epoch,
            iteration=state.progress.iteration,
            learning_rate=self._rate(state.progress.iteration - 1, len(batches)),
            seconds=tally.seconds + validation_seconds,
            timing=tally.timing(validation_seconds),
            look=self.looks.used(),
            losses=means,
            gradient_norm=norm / max(1, tally.steps - skipped),
            skipped_steps=skipped,
            score=score,
            metrics={} if evaluation is None else dict(evaluation.metrics),
            is_best=is_best,
        )

    def _evaluate(self, evaluate: Callable[[R2Model], ValidationScore]) -> ValidationScore:
        """Evaluate; it can be broken off anywhere, and a resumed run does it again."""
        at_once = self.execution.processes.size == 1  # others would wait for an answer
        try:
            with torch.no_grad(), self.interruption.raised(at_once):
                return evaluate(self.state.evaluated.eval())
        except KeyboardInterrupt:
            self.save()
            raise

    def _train_steps(self, batches: BatchSource, traced: Callable[[], None]) -> None:
        state, watch = self.state, Stopwatch(self.device)
        tally = state.tally
        before = dataclasses.replace(tally)
        started = time.perf_counter()

        def clock() -> None:
            watch.read()
            tally.wait_seconds = before.wait_seconds + watch.wait_seconds
            tally.step_seconds = before.step_seconds + watch.step_seconds
            tally.seconds = before.seconds + time.perf_counter() - started

        state.model.train()
        for batch in watch.watch(batches.epoch(state.progress.epoch, tally.steps)):
            state.add(self._step(batch, len(batches)))
            tally.steps += 1
            tally.samples += sum(batch.rank_counts) or len(batch)
            tally.read_bytes += batch.num_read_bytes
            traced()
            self.execution.on_step(tally.steps, len(batches))
            self._pause(clock)
        clock()

    def _pause(self, clock: Callable[[], None]) -> None:
        """Save the state if it is time to, and stop if that was asked for."""
        overdue = time.perf_counter() - self.saved_at > 60 * self.execution.checkpoint_minutes
        wish = self.execution.processes.agree(2 if self.interruption.requested else int(overdue))
        if wish:
            clock()
            self.save()
        if wish == 2:
            raise KeyboardInterrupt

    def save(self) -> None:
        """Write the state between two steps."""
        self.saved_at = time.perf_counter()
        self.state.save(self.folder)

    def _step(self, batch: Batch, iterations_per_epoch: int) -> dict[str, Tensor]:
        """Update the weights by one batch; return its losses without waiting for the device."""
        batch = batch.to(self.device)
        if batch.targets is None:
            raise ConfigError(f"{batch!r}: training needs labels")
        state = self.state
        losses = self._losses(batch, batch.targets)
        rate = self._rate(state.progress.iteration, iterations_per_epoch)
        update = state.optimizer.step(losses.total, rate, self.execution.processes)
        state.average(update.skipped)
        state.progress.iteration += 1
        terms = {
            **losses.terms(),
            "total": losses.total,
            "gradient_norm": update.norm.masked_fill(update.skipped, 0),
            "skipped": update.skipped.int(),
        }
        return {name: term.detach() for name, term in terms.items()}

    def _rate(self, iteration: int, iterations_per_epoch: int) -> float:
        return learning_rate(self.config.schedule, iteration, iterations_per_epoch)

    def _losses(self, batch: Batch, targets: Targets) -> Losses:
        with torch.autocast(self.device.type, dtype=self.mixed, enabled=self.mixed is not None):
            predictions = self.state.model(batch)
        if batch.rank_counts:
            processes = self.execution.processes
            predictions = processes.gather_predictions(predictions, batch.rank_counts)
        return compute_losses(predictions, targets, self.config.losses)


def _log(writer: SummaryWriter, record: EpochRecord) -> None:
    for name, value in record.scalars().items():
        writer.add_scalar(name, value, record.epoch)
    writer.flush()
