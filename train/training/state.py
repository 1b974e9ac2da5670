"""What changes while a run goes on: written between two steps, read again for an exact resume."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from r2t.store.errors import ConfigError, is_gpu_fault
from r2t.train.model import R2Model, shape_problems
from r2t.train.run import STATE, Bottleneck, RunFolder, Timing, TrainConfig
from r2t.train.training.optimizer import Optimizer
from r2t.train.training.processes import Processes


@dataclass
class RunProgress:
    """Counters that a resumed run continues."""

    epoch: int = 0
    iteration: int = 0
    best_score: float | None = None
    epochs_since_best: int = 0


@dataclass
class EpochTally:
    """What has happened in an epoch so far; `steps` is where a resumed one goes on.

    `wait_seconds` is how long the model had no batch to work on, `step_seconds` the rest.
    """

    steps: int = 0
    samples: int = 0
    read_bytes: int = 0
    wait_seconds: float = 0.0
    step_seconds: float = 0.0
    seconds: float = 0.0

    def timing(self, validation_seconds: float) -> Timing:
        """Say where the epoch's time went, validation included."""
        training = max(self.wait_seconds + self.step_seconds, 1e-9)
        parts: dict[Bottleneck, float] = {
            "reading": self.wait_seconds,
            "model": self.step_seconds,
            "validation": validation_seconds,
        }
        return Timing(
            wait_seconds=self.wait_seconds,
            step_seconds=self.step_seconds,
            validation_seconds=validation_seconds,
            samples_per_second=self.samples / training,
            read_gb_per_second=self.read_bytes / 1e9 / training,
            bottleneck=max(parts, key=lambda part: parts[part]),
        )


class RunState:
    """A model with its optimizer, their averages and counters, and the generators of dropout.

    `sums` are of the losses of the epoch so far. `evaluated` is the model to evaluate and to save:
    the averaged one if there is one.
    """

    def __init__(
        self,
        model: R2Model,
        optimizer: Optimizer,
        config: TrainConfig,
        device: torch.device,
        processes: Processes,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.progress = RunProgress()
        self.tally = EpochTally()
        self.sums: dict[str, Tensor] = {}
        self._averaged = copy.deepcopy(model).eval() if config.ema_decay is not None else None
        self._ema_decay = config.ema_decay
        self._device = device
        self._processes = processes

    @property
    def evaluated(self) -> R2Model:
        """The model to evaluate and save."""
        return self.model if self._averaged is None else self._averaged

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        """Start from another run's weights instead of random ones."""
        shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        if problems := shape_problems(self.model.config, shapes):
            raise ConfigError(f"the weights to begin with do not fit the model: {problems}")
        self.model.load_state_dict(dict(weights))
        if self._averaged is not None:
            self._averaged.load_state_dict(dict(weights))

    @torch.no_grad()
    def average(self, skipped: Tensor) -> None:
        """Bring the averaged weights nearer to the latest ones, unless the step was skipped."""
        if self._averaged is None or self._ema_decay is None:
            return
        share = (1 - self._ema_decay) * (~skipped).float()
        for mean, current in zip(self._averaged.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(current, share)

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Count the losses of a step, without waiting for the device."""
        for name, value in losses.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def finish_epoch(self, score: float | None) -> bool:
        """Count an epoch; return whether its score is the best so far, as it is without any."""
        progress = self.progress
        progress.epoch += 1
        self.tally, self.sums = EpochTally(), {}
        if score is None:
            return True
        is_best = progress.best_score is None or score > progress.best_score
        if is_best:
            progress.best_score = score
        progress.epochs_since_best = 0 if is_best else progress.epochs_since_best + 1
        return is_best

    def save(self, folder: RunFolder) -> None:
        """Write the state between two steps; every process has to come here, one writes."""
        random = self._random_state()
        if not self._processes.leads:
            return
        parts = {
            "model": self.model.state_dict(),
            "averaged": {} if self._averaged is None else self._averaged.state_dict(),
            "random": random,
            "sums": self.sums,
            "optimizer": self.optimizer.state(),
        }
        tensors = {f"{part}/{key}": value for part in parts for key, value in parts[part].items()}
        counters = {
            "progress": dataclasses.asdict(self.progress),
            "tally": dataclasses.asdict(self.tally),
            "scaler": self.optimizer.scaler_state(),
        }
        folder.save_state(tensors, counters)

    def load(self, folder: RunFolder) -> None:
        """Continue from what `save` wrote.

        Raises:
            ConfigError: The state is of another run, or damaged.
        """
        tensors, counters = folder.load_state()
        try:
            self._restore(tensors, counters)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError) or is_gpu_fault(error):
                raise
            raise ConfigError(
                f"{folder.path / STATE} belongs to another run or is damaged: {error}; start a new "
                "run"
            ) from error

    def _restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, _, key = name.partition("/")
            parts.setdefault(part, {})[key] = tensor
        self.model.load_state_dict(parts["model"])
        if self._averaged is not None:
            self._averaged.load_state_dict(parts["averaged"])
        self.optimizer.load(parts.get("optimizer", {}), counters["scaler"])
        self.progress = RunProgress(**counters["progress"])
        self.tally = EpochTally(**counters["tally"])
        self.sums = {name: value.to(self._device) for name, value in parts.get("sums", {}).items()}
        self._set_random_state(parts["random"])

    def _random_state(self) -> dict[str, Tensor]:
        """Return the states of the generators of all processes, by rank and kind of device."""
        state = {"cpu": torch.get_rng_state()}
        if self._device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self._device)
        parts = self._processes.gather_bytes(safetensors.torch.save(state))
        return {
            f"{rank}/{kind}": tensor
            for rank, part in enumerate(parts)
            for kind, tensor in safetensors.torch.load(part).items()
        }

    def _set_random_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the generators; other hardware, or a process that was not there, draws anew."""
        rank = self._processes.rank
        cpu, cuda = (state.get(f"{rank}/{kind}") for kind in ("cpu", "cuda"))
        if cpu is not None:
            torch.set_rng_state(cpu)
        if cuda is not None and self._device.type == "cuda":
            torch.cuda.set_rng_state(cuda, self._device)
