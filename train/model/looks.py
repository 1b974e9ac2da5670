"""Which look is used where.

All looks compute the same up to rounding; they differ in what they cost.

- `ReferenceLook` follows the formulas line by line and maps every patch for every query. Tests and
  benchmarks compare the others with it.
- `TiledLook` works through a tile of frames at a time: as many as fit into a CPU's cache, or as
  keep a GPU busy that has no memory for more. It is a CPU's look.
- `WholeLook` works on the whole batch, a layer at a time, in a few operations that keep every value
  for the backward pass: a GPU's look, where its memory is large enough.
- `PreparedLook` is used by `R2Model.refine`, on any device, so that asking a video again does not
  map its patches again. It needs all of them in memory and computes no gradients.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import get_args

import torch

from r2t.store.errors import ConfigError, RunWarning
from r2t.train.choices import LookName
from r2t.train.data import Batch
from r2t.train.model.compiling import Compiled
from r2t.train.model.config import R2Config
from r2t.train.model.padding import Extents
from r2t.train.model.r2_block import Look
from r2t.train.model.reference_look import ReferenceLook
from r2t.train.model.tiled_look import TiledLook
from r2t.train.model.whole_look import WholeLook, look_at_layer

MakeLook = Callable[[R2Config, Batch, Extents], Look]
_SHARE_OF_MEMORY = 0.8  # what else a step needs, and what is lost between pieces, is the rest
_COMPILED = Compiled(look_at_layer)  # of the process, so that it is compiled once


class Looks:
    """Makes the look of every batch, and remembers which there were.

    "auto" takes tiles on a CPU and looks at the whole batch on a GPU whose memory, as it was when
    the first batch came, is enough; else tiles too, with a `RunWarning`. The other names are for
    comparing. On a GPU a training's whole look is compiled, if torch can do that there.
    """

    def __init__(self, name: LookName = "auto") -> None:
        if name not in get_args(LookName):
            raise ConfigError(f"look = {name!r}: must be one of {', '.join(get_args(LookName))}")
        self.name = name
        self._used: set[str] = set()
        self._compiled = False
        self._memory: dict[torch.device, int] = {}
        self._has_warned = False

    def __call__(self, config: R2Config, batch: Batch, extents: Extents) -> Look:
        """Return the look for a batch, on the device that holds it."""
        name = self.name if self.name != "auto" else self._choose(config, batch)
        self._used.add(name)
        if name != "whole":
            return (ReferenceLook if name == "reference" else TiledLook)(config, batch, extents)
        if not batch.videos.is_cuda or not torch.is_grad_enabled():
            return WholeLook(config, batch, extents)
        self._compiled = True
        return WholeLook(config, batch, extents, _COMPILED)

    def used(self) -> str | None:
        """Return in words which looks there were since the last call, None if there was none."""
        words = " and ".join(sorted(self._used)) or None
        if words is not None and self._compiled and not _COMPILED.failed:
            words = words.replace("whole", "whole, compiled")
        self._used.clear()
        return words

    def __deepcopy__(self, memo: object) -> Looks:
        return self  # an average of models looks as the models do

    def _choose(self, config: R2Config, batch: Batch) -> LookName:
        device = batch.videos.device
        if device.type != "cuda":
            return "tiled"
        if device not in self._memory:
            self._memory[device] = free_gpu_bytes(device)
        needed, free = WholeLook.bytes_needed(config, batch), self._memory[device]
        if needed <= _SHARE_OF_MEMORY * free:
            return "whole"
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"to look at {len(batch)} queries at once takes {needed / 1e9:.1f} GB, and of the "
                f"GPU's memory {free / 1e9:.1f} GB are free: frames are worked through in tiles, "
                "which takes longer; a smaller --batch-size needs less",
                RunWarning,
                stacklevel=2,
            )
        return "tiled"


def free_gpu_bytes(device: torch.device) -> int:
    """Return how much of a GPU's memory new tensors can have."""
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + kept


choose_look = Looks()
