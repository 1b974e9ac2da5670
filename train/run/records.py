"""What a run measures and writes down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Bottleneck = Literal["reading", "model", "validation"]


@dataclass(frozen=True)
class ValidationScore:
    """Scores of a model on validation data; the best checkpoint has the highest `score`."""

    score: float
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Timing:
    """Where an epoch's time went; `read_gb_per_second` is over training, in 1e9 bytes.

    `bottleneck` names the largest part: waiting for the reader, the model's own steps, or
    validation. In a run of several processes these are the first one's.
    """

    wait_seconds: float
    step_seconds: float
    validation_seconds: float
    samples_per_second: float
    read_gb_per_second: float
    bottleneck: Bottleneck

    def scalars(self) -> dict[str, float]:
        """Return what can be drawn over epochs."""
        return {name: value for name, value in vars(self).items() if name != "bottleneck"}


@dataclass(frozen=True)
class EpochRecord:
    """One line of metrics.jsonl; epochs count from 0, losses are means over the epoch.

    `skipped_steps` had gradients that overflowed, which mixed precision does now and then until it
    has found its scale; `gradient_norm` is the mean of the others, before clipping. `look` names
    how patches were looked at, None where a resumed epoch had no step left.
    """

    epoch: int
    iteration: int
    learning_rate: float
    seconds: float
    timing: Timing
    look: str | None
    losses: dict[str, float]
    gradient_norm: float
    skipped_steps: int
    score: float | None
    metrics: dict[str, float]
    is_best: bool

    def scalars(self) -> dict[str, float]:
        """Return what can be drawn over epochs, by TensorBoard's names."""
        scalars = {"learning_rate": self.learning_rate, "gradient_norm": self.gradient_norm}
        groups = {"loss": self.losses, "metric": self.metrics, "timing": self.timing.scalars()}
        for group, values in groups.items():
            scalars |= {f"{group}/{name}": value for name, value in values.items()}
        return scalars
