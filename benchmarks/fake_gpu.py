"""A training step on tensors that claim to be on a GPU and hold nothing: what it would ask of one.

Every operation that reaches the device is counted, with the bytes it reads and writes, and so are
the places where the host would wait for a value. Numbers that the host asks for all the same, such
as lengths, are given to it from outside. Needs torch 2.10 where there is no driver of a GPU.
"""

from __future__ import annotations

import itertools
import math
import sys
import weakref
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

GPU = torch.device("cuda", 0)
WAITING = {
    "_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "equal",
    "is_nonzero", "repeat_interleave", "unique_consecutive",
}  # fmt: skip
MOVING_NOTHING = {
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view",
    "_reshape_alias", "lift_fresh",
}  # fmt: skip
OVERWRITING = {"copy_", "fill_", "zero_", "random_"}
PICKING = {"index", "index_select", "gather", "embedding"}  # they read as much as they write


@dataclass
class Counts:
    """What was asked of the device; `waits` by place, as `file:line`. Memory is above the start."""

    operations: int = 0
    num_bytes: int = 0
    flops: int = 0
    waits: Counter[str] = field(default_factory=Counter)
    held_bytes: int = 0
    peak_bytes: int = 0

    def restart(self) -> None:
        """Forget what was counted."""
        self.operations = self.num_bytes = self.flops = self.held_bytes = self.peak_bytes = 0
        self.waits.clear()


class Counting(TorchDispatchMode):
    """Counts what is called, below autograd and autocast."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        given = _on_gpu((args, kwargs))
        if given and _waits(name, func, args, kwargs):
            self.counts.waits[_place()] += 1
        found = func(*args, **kwargs)
        returned = _on_gpu(found)
        if (given or returned) and _computes(func):
            read = [] if name in OVERWRITING else given
            if name in PICKING:
                read = returned
            if name == "copy_":
                read = _on_gpu(args[1])
            self.counts.operations += 1
            self.counts.num_bytes += sum(map(_extent, [*read, *returned]))
            plain = getattr(torch.ops.aten, name.removesuffix("_"), None)
            if plain in flop_registry:
                self.counts.flops += int(flop_registry[plain](*args, **kwargs, out_val=found))
        for tensor in returned:
            self.hold(tensor)
        return found

    def hold(self, tensor: Tensor) -> None:
        """Count the memory behind a tensor until nothing refers to it."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        counts = self.counts
        counts.held_bytes += size
        counts.peak_bytes = max(counts.peak_bytes, counts.held_bytes)

        def release() -> None:
            self._known.discard(key)
            counts.held_bytes -= size

        weakref.finalize(storage, release)


class _WithoutDriver(TorchFunctionMode):
    """Does in another way what asks for a device that is there."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.backward:
            return _backward(args[0])
        return func(*args, **kwargs)


class _Generator(torch.Generator):
    """One of the host that claims to be the GPU's; nothing is drawn from it."""

    def __new__(cls, device: torch.device) -> _Generator:
        return super().__new__(cls)

    device = GPU  # type: ignore[assignment]


@torch.no_grad()
def _backward(loss: Tensor) -> None:
    """Do what torch's own engine does, which asks the driver for its streams."""
    assert loss.grad_fn is not None
    gradients: dict[Any, list[Tensor | None]] = {loss.grad_fn: [torch.ones_like(loss)]}
    while gradients:
        node = max(gradients, key=lambda node: node._sequence_nr())  # made last
        given = gradients.pop(node)
        found = node.apply(*given) if hasattr(node, "apply") else node(*given)
        found = found if isinstance(found, tuple) else (found,)
        found = found[-len(node.next_functions) :]  # what is no tensor comes first, and has none
        for (after, place), gradient in zip(node.next_functions, found, strict=True):
            if after is None or gradient is None:
                continue
            expected = after._input_metadata[place]
            gradient = gradient.sum_to_size(expected.shape).to(expected.dtype)
            if hasattr(after, "variable"):
                known = after.variable.grad
                after.variable.grad = gradient if known is None else known + gradient
                continue
            places = gradients.setdefault(after, [None] * len(after._input_metadata))
            known = places[place]
            places[place] = gradient if known is None else known + gradient


@contextmanager
def fake_gpu(lists: Sequence[list[int]] = ()) -> Generator[Counts]:
    """Count inside the block; tensors made there hold nothing. `lists` are what the host reads."""
    counts, waiting = Counts(), itertools.cycle(lists)

    def tolist(tensor: Tensor) -> list[int]:
        if tensor.device.type == "cpu":
            return [0] * tensor.numel()  # seeds
        counts.waits[_place()] += 1
        return next(waiting)

    with ExitStack() as stack:
        stack.enter_context(patch.object(FakeTensor, "tolist", tolist))
        common = torch.cuda.amp.common
        stack.enter_context(patch.object(common, "amp_definitely_not_available", bool))
        stack.enter_context(patch.object(torch.cuda, "is_bf16_supported", lambda: True))
        stack.enter_context(patch.object(torch, "Generator", _Generator))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(Counting(counts))
        stack.enter_context(_WithoutDriver())
        yield counts


def _on_gpu(values: Any) -> list[Tensor]:
    leaves = tree_leaves(values)
    return [each for each in leaves if isinstance(each, Tensor) and each.device.type == "cuda"]


def _extent(tensor: Tensor) -> int:
    """Return the bytes of a tensor, counting what is repeated once."""
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(size for size, stride in pairs if stride) * tensor.element_size()


def _computes(func: Any) -> bool:
    """Return whether an operation does anything on the device."""
    if func.namespace != "aten" or func.overloadpacket.__name__ in MOVING_NOTHING:
        return False
    infos = [each.alias_info for each in func._schema.returns]
    return not any(info is not None and not info.is_write for info in infos)


def _waits(name: str, func: Any, args: Any, kwargs: Any) -> bool:
    if name in WAITING:
        return True
    if name == "index":
        return any(each is not None and each.dtype == torch.bool for each in args[1])
    to_host = str(kwargs.get("device")) == "cpu" and name == "_to_copy"
    if name == "copy_":
        to_host = args[0].device.type == "cpu"
    return to_host and not kwargs.get("non_blocking")


def _place() -> str:
    """Return where in r2t the host is, as `file:line`."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if frame.f_globals.get("__name__", "").startswith("r2t."):
            return f"{path.name}:{frame.f_lineno}"
        frame = frame.f_back
    return "outside of r2t"
