"""One update of the weights: its rate, scaling, summing over processes, clipping; or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from r2t.train.run import ScheduleConfig, TrainConfig
from r2t.train.training.processes import Processes


def learning_rate(schedule: ScheduleConfig, iteration: int, iterations_per_epoch: int) -> float:
    """Return the learning rate of an iteration, counted over the whole run.

    As in the official code a warm-up that outlasts a step ignores it, and the base rate it ends
    on holds until the next epoch starts.
    """
    warmup = schedule.warmup_iterations
    if iteration < warmup:
        progress = iteration / warmup
        return schedule.learning_rate * (
            schedule.warmup_ratio + (1 - schedule.warmup_ratio) * progress
        )
    epoch = iteration // iterations_per_epoch
    if epoch * iterations_per_epoch <= warmup:
        return schedule.learning_rate
    num_steps = sum(step <= epoch for step in schedule.step_epochs)
    return schedule.learning_rate * schedule.decay**num_steps


class Update(NamedTuple):
    """What became of a step: the norm of its gradients before clipping, and if it was skipped."""

    norm: Tensor
    skipped: Tensor


class _AdamW(torch.optim.AdamW):
    """AdamW in one kernel, which leaves everything as it is where `found_inf` is 1."""

    found_inf: Tensor | None = None


class Optimizer:
    """AdamW for all weights of a model, with clipped gradients.

    Gradients whose norm is not finite change neither weights nor moments, in any precision, and in
    every process, since each has the same sum. The host does not wait to know of it.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, *, scaled_on: str | None) -> None:
        """Scale the loss as float16 needs it on this kind of device; None does not scale."""
        self._model = model
        self._clip = config.gradient_clip
        # All of them decay, biases and norms too, as in the official training.
        self._adamw = _AdamW(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            weight_decay=config.weight_decay,
            fused=True,
        )
        self._scaler = torch.amp.GradScaler(scaled_on or "cpu", enabled=scaled_on is not None)

    def step(self, loss: Tensor, learning_rate: float, processes: Processes) -> Update:
        """Update the weights from the gradients of a loss, of which each process has a part."""
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate
        self._adamw.zero_grad()
        self._scaler.scale(loss).backward()
        processes.sum_gradients(self._model.parameters())
        self._scaler.unscale_(self._adamw)
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
        skipped = ~norm.isfinite()
        self._adamw.found_inf = skipped.float()
        self._adamw.step()
        self._scaler.update()
        return Update(norm, skipped)

    def state(self) -> dict[str, Tensor]:
        """Return the moments, by number of the parameter and name."""
        return {
            f"{index}.{name}": torch.as_tensor(value)
            for index, moments in self._adamw.state_dict()["state"].items()
            for name, value in moments.items()
        }

    def scaler_state(self) -> dict[str, Any]:
        """Return what the scale of the loss follows from, empty where it is not scaled."""
        return self._scaler.state_dict()

    def load(self, state: Mapping[str, Tensor], scaler: Mapping[str, Any]) -> None:
        """Restore what `state` and `scaler_state` returned."""
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            index, _, name = key.partition(".")
            moments.setdefault(int(index), {})[name] = tensor
        groups = self._adamw.state_dict()["param_groups"]
        self._adamw.load_state_dict({"state": moments, "param_groups": groups})
        if scaler:
            self._scaler.load_state_dict(dict(scaler))
