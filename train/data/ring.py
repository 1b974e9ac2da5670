"""Memory that batches pass through, used over and over, and the way onto a GPU.

A buffer holds one batch. Its tensors lie side by side in one block, so that two copies bring a
batch over, however many tensors it has: its videos, and all the rest. A ring is the buffers on the
host and, where there is a device to go to, two on it that take turns.

Nothing is read or written at the wrong time, for these reasons. A buffer on the host is filled by
threads; they are done before its copy is put into the stream of copies, and the host waits until
that copy is done before it gives the buffer back to be filled anew, and before it hands the batch
to the model. A buffer on the device is overwritten by that stream after a mark in the model's
stream, which is set once the next batch is asked for and so lies behind all work on the buffer. A
pass that is broken off sets the same mark and waits for the same copies.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from r2t.store.schema import FeatureSpec
from r2t.train.data.batch import Batch
from r2t.train.data.prior import NUM_PRIORS
from r2t.train.data.transfer import Mark, Transfer

_ALIGNMENT_BYTES = 256  # as torch aligns what it allocates on a GPU
_DEVICE_BUFFERS = 2


def aligned(num_bytes: int) -> int:
    """Return what so many bytes take in an arena."""
    return -(-num_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


class BufferSize(NamedTuple):
    """How much a buffer has room for; the parts are multiples of the alignment."""

    videos_bytes: int
    rest_bytes: int

    @property
    def num_bytes(self) -> int:
        """What the buffer takes."""
        return self.videos_bytes + self.rest_bytes

    def holds(self, other: BufferSize) -> bool:
        """Whether what fits into `other` fits into this."""
        return self.videos_bytes >= other.videos_bytes and self.rest_bytes >= other.rest_bytes


def rest_bytes(
    spec: FeatureSpec, num_queries: int, num_words: int, num_prior_frames: int = 0
) -> int:
    """Return what so many queries of up to so many words, and their affines, take at most.

    So do their priors, of up to so many frames each, where there are any.
    """
    sizes = [2 * num_queries * spec.num_layers * num_words * spec.text_width]
    sizes += 3 * [8 * num_queries]  # their numbers of words and frames, and their videos
    sizes.append(4 * num_queries * num_prior_frames * NUM_PRIORS)
    if spec.dtype == "int8":
        sizes.append(4 * num_queries * 2 * spec.num_layers * spec.vision_width)
    return sum(map(aligned, sizes))


@dataclass(eq=False)
class Arena:
    """Memory from which tensors are cut one after another, until all of them are let go."""

    memory: Tensor
    taken_bytes: int = 0

    def take(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return an uninitialised tensor, which is valid until the arena is cleared."""
        start, num_bytes = self.taken_bytes, math.prod(shape) * dtype.itemsize
        assert start + num_bytes <= len(self.memory), "the batch is larger than was foreseen"
        self.taken_bytes = start + aligned(num_bytes)
        return _view(self.memory, start, shape, dtype)

    def clear(self) -> None:
        """Let all tensors go."""
        self.taken_bytes = 0

    @property
    def taken(self) -> Tensor:
        """The bytes of all tensors."""
        return self.memory[: self.taken_bytes]


def pad_queries(
    tokens: Sequence[NDArray[np.float16]], arena: Arena, longest: int = 0
) -> tuple[Tensor, Tensor]:
    """Stack queries [layers, words, width] with zeros after the shorter ones; count their words.

    The `longest` may be of more words than any of them.
    """
    num_words = [query.shape[1] for query in tokens]
    layers, _, width = tokens[0].shape
    longest = max(longest, *num_words)
    padded = arena.take((len(tokens), layers, longest, width), torch.float16)
    for target, query in zip(padded.numpy(), tokens, strict=True):
        target[:, : query.shape[1]] = query
        target[:, query.shape[1] :] = 0
    return padded, torch.tensor(num_words)


class BatchBuffer:
    """Memory of one batch: an arena for its videos, and one for the rest behind it."""

    def __init__(self, memory: Tensor, size: BufferSize) -> None:
        self._memory = memory
        self.videos = Arena(memory[: size.videos_bytes])
        self.rest = Arena(memory[size.videos_bytes : size.num_bytes])

    def clear(self) -> None:
        """Let the batch go."""
        self.videos.clear()
        self.rest.clear()

    def hold(self, tensor: Tensor) -> Tensor:
        """Return a small tensor's copy among the rest, or the tensor itself if it lies here."""
        if 0 <= self._start(tensor) < len(self._memory):
            return tensor
        return self.rest.take(tensor.shape, tensor.dtype).copy_(tensor)

    def twin(self, tensor: Tensor, other: BatchBuffer) -> Tensor:
        """Return what lies in this buffer as `tensor` lies in the other."""
        return _view(self._memory, other._start(tensor), tensor.shape, tensor.dtype)

    def _start(self, tensor: Tensor) -> int:
        return tensor.data_ptr() - self._memory.data_ptr()


class FilledBuffer(NamedTuple):
    """A buffer with all that a batch consists of; one of `batches` for each of its labels.

    `lay` lays the videos out on the device, where they are not copied from the buffer as they are.
    """

    buffer: BatchBuffer
    batches: list[Batch]
    lay: Callable[[Tensor], None] | None = None


@dataclass(eq=False)
class _Turn:
    """One of the buffers on the device; `used` is behind all work on what it held last."""

    buffer: BatchBuffer
    used: Mark
    copied: Mark | None = None


class Ring:
    """Buffers on the host and, with a `transfer`, on its device: all that reading allocates."""

    def __init__(self, length: int, size: BufferSize, transfer: Transfer | None) -> None:
        self.size = size
        self._transfer = transfer
        # Else threads could not write to memory that was made while only inference is allowed.
        with torch.inference_mode(False):
            host = _pageable if transfer is None else transfer.host_memory
            self.buffers = [BatchBuffer(host(size.num_bytes), size) for _ in range(length)]
            self._turns: list[_Turn] = []
            if transfer is not None:
                memory = [transfer.device_memory(size.num_bytes) for _ in range(_DEVICE_BUFFERS)]
                used = transfer.mark_model()
                self._turns = [_Turn(BatchBuffer(each, size), used) for each in memory]

    def deliver(self, filled: Generator[FilledBuffer]) -> Generator[Batch]:
        """Yield batches where they are wanted, each valid until the next is asked for.

        A buffer of `filled` may be used again once the next is asked for. On a device the next
        batch is copied ahead, and neither host nor copies get further ahead of the model than that.
        """
        with closing(filled):
            if self._transfer is None:
                for full in filled:
                    yield from full.batches
            else:
                yield from self._cross(filled, self._transfer)

    def _cross(self, filled: Iterator[FilledBuffer], transfer: Transfer) -> Generator[Batch]:
        turns = itertools.cycle(self._turns)
        ahead: tuple[_Turn, list[Batch]] | None = None
        try:
            for full in filled:
                turn = next(turns)
                copied, batches = _copy(full, turn, transfer)
                if ahead is not None:
                    yield from _hand_over(*ahead, transfer)
                copied.synchronize()
                ahead = turn, batches
            if ahead is not None:
                yield from _hand_over(*ahead, transfer)
        finally:
            for turn in self._turns:
                if turn.copied is not None:
                    turn.copied.synchronize()


class KeptRing:
    """The ring of a reader, kept from pass to pass for as long as it is large enough."""

    def __init__(self, transfer: Transfer | None) -> None:
        self._transfer = transfer
        self._ring: Ring | None = None  # where no pass is using it

    @contextmanager
    def lent(self, length: int, size: BufferSize) -> Generator[Ring]:
        """Lend the ring to a pass; another pass at the same time gets one of its own."""
        ring, self._ring = self._ring, None
        if ring is None or len(ring.buffers) < length or not ring.size.holds(size):
            if ring is not None:  # of the old one not even a cached block shall stay
                del ring
                if self._transfer is not None:
                    self._transfer.release()
            ring = Ring(length, size, self._transfer)
        try:
            yield ring
        finally:
            self._ring = ring


def _copy(full: FilledBuffer, turn: _Turn, transfer: Transfer) -> tuple[Mark, list[Batch]]:
    """Put a batch's copies into their stream; return the mark behind them, and what they make."""
    batches = [
        batch.map(lambda tensor: turn.buffer.twin(tensor, full.buffer)) for batch in full.batches
    ]

    def work() -> None:
        if full.lay is not None:
            full.lay(batches[0].videos)
        else:
            videos = full.buffer.videos.taken
            turn.buffer.videos.memory[: len(videos)].copy_(videos, non_blocking=True)
        rest = full.buffer.rest.taken
        turn.buffer.rest.memory[: len(rest)].copy_(rest, non_blocking=True)

    turn.copied = transfer.run(work, after=turn.used)
    return turn.copied, batches


def _hand_over(turn: _Turn, batches: list[Batch], transfer: Transfer) -> Generator[Batch]:
    try:
        yield from batches
    finally:  # also where the pass is broken off: the next one uses the buffer again
        turn.used = transfer.mark_model()


def _pageable(num_bytes: int) -> Tensor:
    return torch.empty(num_bytes, dtype=torch.uint8)


def _view(memory: Tensor, start: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    num_bytes = math.prod(shape) * dtype.itemsize
    return memory[start : start + num_bytes].view(dtype).view(*shape)
