"""A function that torch compiles where it can, and that runs as it is where it cannot."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from r2t.store.errors import RunWarning, is_gpu_fault

_LONGEST_REASON = 200


class Compiled:
    """Calls a function that maps tensors to a tuple of tensors, compiled for any sizes.

    A compiler may be missing, or fail at this very function. The first call finds out, with a
    gradient of its own; then all calls take the function as it is, and a `RunWarning` says why.
    """

    def __init__(
        self, function: Callable[..., tuple[Tensor, ...]], *, backend: str = "inductor"
    ) -> None:
        self.plain = function
        self.failed = False
        self._backend = backend
        self._compiled: Callable[..., tuple[Tensor, ...]] | None = None

    def __call__(self, *inputs: Any) -> tuple[Tensor, ...]:
        """Return what the function returns."""
        if self.failed:
            return self.plain(*inputs)
        try:
            if self._compiled is None:
                self._compiled = self._compile()
                _try(self._compiled, inputs)
            return self._compiled(*inputs)
        except Exception as error:
            if isinstance(error, torch.OutOfMemoryError) or is_gpu_fault(error):
                raise
            self.failed = True
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_REASON]
            warnings.warn(
                f"torch cannot compile the model here, which makes a step slower and changes no "
                f"result: {reason}",
                RunWarning,
                stacklevel=2,
            )
            return self.plain(*inputs)

    def _compile(self) -> Callable[..., tuple[Tensor, ...]]:
        if self._backend == "inductor":
            import torch._inductor.config as settings

            if hasattr(settings, "deterministic"):
                # Otherwise each process times several kernels and takes the fastest, which may add
                # up in another order.
                settings.deterministic = True
        return torch.compile(self.plain, dynamic=True, backend=self._backend)


def _try(function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Any, ...]) -> None:
    """Call a function and take gradients of what it returns, leaving no trace of it."""
    first = next(each for each in inputs if isinstance(each, Tensor))
    devices = [first.device] if first.is_cuda else []
    with torch.random.fork_rng(devices=devices), contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # of the compiler about itself
        outputs = [each for each in function(*inputs) if each.requires_grad]
        sources = [leaf for leaf in _tensors(inputs) if leaf.requires_grad]
        if outputs:
            total = torch.stack([each.float().sum() for each in outputs]).sum()
            torch.autograd.grad(total, sources, retain_graph=True, allow_unused=True)


def _tensors(inputs: tuple[Any, ...]) -> list[Tensor]:
    found: list[Tensor] = []
    for each in inputs:
        if isinstance(each, Tensor):
            found.append(each)
        elif isinstance(each, tuple):
            found += _tensors(each)
    return found
