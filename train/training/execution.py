"""How a training run is carried out: on which device, in how many processes, saved how often."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from r2t.store.progress import OnProgress, no_progress
from r2t.train.choices import LookName
from r2t.train.data import Batch
from r2t.train.run import EpochRecord
from r2t.train.training.processes import ALONE, Processes


@runtime_checkable
class BatchSource(Protocol):
    """Labelled batches, one epoch after another; `FeatureReader` is one."""

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        ...

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield an epoch from batch `start` on; its order depends on nothing but its number.

        A batch need not stay valid once the next is asked for.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a run is carried out; none of it but `allow_changed` changes what it learns.

    The state is saved when an epoch ends and, inside one, every `checkpoint_minutes`. `on_step` is
    called with the number of batches done in this epoch and the number there are. `trace` is where
    to write a profile of a few steps. `processes` share the work. `look` says how patches are
    looked at. A run that is resumed with `allow_changed` goes on though its store has changed.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    resume: bool = False
    allow_changed: bool = False
    checkpoint_minutes: float = 15.0
    trace: Path | None = None
    look: LookName = "auto"
    processes: Processes = ALONE
    on_step: OnProgress = no_progress
    on_epoch: Callable[[EpochRecord], None] | None = None
