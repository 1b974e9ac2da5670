"""Memory that batches pass through: buffers used over and over, and the way onto a GPU.

Nothing is allocated per sample or per batch once the largest batch has been seen. Where the device
is a GPU the buffers are pinned, and two buffers on it take turns: the next batch is copied, on a
stream of its own, while the model works on the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from r2t.train.batch import Batch


@dataclass(eq=False)
class Buffer:
    """Memory that grows to the largest tensor asked of it, and is otherwise used again."""

    device: torch.device
    pinned: bool = False
    _memory: Tensor | None = None

    def take(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return an uninitialised tensor in this memory; the one taken before is overwritten."""
        num_bytes = math.prod(shape) * dtype.itemsize
        with torch.inference_mode(False):  # reading threads could not write to it otherwise
            if self._memory is None or len(self._memory) < num_bytes:
                self._memory = None  # first let go of the old one
                self._memory = torch.empty(
                    num_bytes, dtype=torch.uint8, device=self.device, pin_memory=self.pinned
                )
            return self._memory[:num_bytes].view(dtype).view(*shape)


@dataclass(eq=False)
class Slot:
    """Buffers of one batch."""

    videos: Buffer
    affine: Buffer
    query: Buffer

    @classmethod
    def on(cls, device: torch.device, *, pinned: bool = False) -> Slot:
        """Make empty buffers; `pinned` host memory is what a GPU copies from by itself."""
        return cls(*(Buffer(device, pinned) for _ in range(3)))


@dataclass(eq=False)
class _Turn:
    """One of the two places of a batch on a GPU."""

    slot: Slot
    copied: torch.cuda.Event = field(default_factory=torch.cuda.Event)
    used: torch.cuda.Event = field(default_factory=torch.cuda.Event)


def onto_gpu(batches: Iterator[Batch], device: torch.device) -> Generator[Batch]:
    """Yield batches on a GPU, one copied ahead; each stays valid until the next is asked for.

    A batch of `batches`, too, may be overwritten once the next is asked for: that waits until the
    GPU has it. Neither the host nor the copies get further ahead of the model than one batch.
    """
    copies = torch.cuda.Stream(device)
    turns = itertools.cycle([_Turn(Slot.on(device)), _Turn(Slot.on(device))])
    ahead: tuple[_Turn, Batch] | None = None
    for batch in batches:
        turn = next(turns)
        with torch.cuda.stream(copies):
            copies.wait_event(turn.used)
            moved = _copy(batch, turn.slot, device)
            turn.copied.record(copies)
        if ahead is not None:
            yield from _hand_over(*ahead, device)
        turn.copied.synchronize()
        ahead = turn, moved
    if ahead is not None:
        yield from _hand_over(*ahead, device)


def _hand_over(turn: _Turn, batch: Batch, device: torch.device) -> Generator[Batch]:
    model = torch.cuda.current_stream(device)
    model.wait_event(turn.copied)
    yield batch
    turn.used.record(model)


def _copy(batch: Batch, slot: Slot, device: torch.device) -> Batch:
    """Copy the large tensors into a slot, the small ones into new memory."""
    large = {"videos": batch.videos, "query": batch.query}
    if batch.affine is not None:
        large["affine"] = batch.affine
    moved = {
        name: getattr(slot, name).take(tensor.shape, tensor.dtype).copy_(tensor, non_blocking=True)
        for name, tensor in large.items()
    }
    return replace(batch, **moved).to(device)
