"""A function that torch compiles where it can, and that runs as it is where it cannot."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from r2t.store.errors import RunWarning, is_gpu_fault

_LONGEST_REASON = 200


class Compiled:
    """Calls a function that maps tensors to a tuple of tensors, compiled for any sizes.

    A compiler may be missing, or fail at this very function. The first call finds out, with a
    gradient of its own; then all calls take the function as it is, and a `RunWarning` says why.
    """

    def __init__(
        self, function: Callable[..., tuple[Tensor, ...]], *, backend: Any = "inductor"
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
        # It asks each input for a gradient, and torch warns of those that have none of their own.
        warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a")
        if self._backend == "inductor":
            import torch._inductor.config as settings

            if hasattr(settings, "deterministic"):
                # Otherwise each process times several kernels and takes the fastest, which may add
                # up in another order.
                settings.deterministic = True
        return torch.compile(self.plain, dynamic=True, backend=self._backend)


def _try(function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Any, ...]) -> None:
    """Call a function and take gradients of what it returns, leaving no trace of it."""
    apart = _apart(inputs)
    sources = [each for each in tree_leaves(apart) if _has_gradient(each)]
    devices = {each.device for each in tree_leaves(apart) if isinstance(each, Tensor)}
    with torch.random.fork_rng([device for device in devices if device.type == "cuda"]):
        outputs = [each for each in function(*apart) if each.requires_grad]
        if outputs:
            total = torch.stack([each.float().sum() for each in outputs]).sum()
            torch.autograd.grad(total, sources, allow_unused=True)


def _apart(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return inputs whose gradients end there; those of weights do so by themselves."""

    def cut(value: Any) -> Any:
        if not _has_gradient(value) or value.is_leaf:
            return value
        return value.detach().requires_grad_()

    return tree_map(cut, inputs)


def _has_gradient(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad
