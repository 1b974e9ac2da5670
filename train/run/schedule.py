"""The learning rate: a linear warm-up over iterations, then steps at epochs."""

from __future__ import annotations

from dataclasses import dataclass

from r2t.store.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """A base rate, reached after `warmup_iterations`, times `decay` from each of `step_epochs` on.

    Epochs and iterations count from 0; the warm-up starts at `warmup_ratio` of the base rate.
    """

    learning_rate: float = 5e-4
    warmup_iterations: int = 500
    warmup_ratio: float = 0.001
    step_epochs: tuple[int, ...] = ()
    decay: float = 0.1

    def __post_init__(self) -> None:
        for name in ("learning_rate", "warmup_ratio", "decay"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be in (0, 1]")
        if self.warmup_iterations < 0:
            raise ConfigError(f"warmup_iterations = {self.warmup_iterations}: must not be negative")
        if (
            list(self.step_epochs) != sorted(set(self.step_epochs))
            or min(self.step_epochs, default=1) < 1
        ):
            raise ConfigError(f"step_epochs = {self.step_epochs}: give ascending epochs from 1 up")

    def rate(self, iteration: int, iterations_per_epoch: int) -> float:
        """Return the learning rate of an iteration, counted over the whole run.

        As in the official code a warm-up that outlasts a step ignores it, and the base rate it ends
        on holds until the next epoch starts.
        """
        warmup = self.warmup_iterations
        if iteration < warmup:
            progress = iteration / warmup
            return self.learning_rate * (self.warmup_ratio + (1 - self.warmup_ratio) * progress)
        epoch = iteration // iterations_per_epoch
        if epoch * iterations_per_epoch <= warmup:
            return self.learning_rate
        return self.learning_rate * self.decay ** sum(step <= epoch for step in self.step_epochs)
