"""Arithmetic in float64, and what makes gradients of two devices comparable.

Dropout has to draw the same. And where rounding moves a unit across zero, its ReLU passes a
gradient on one device and none on the other, which is no error of either.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from r2t.train.model.tiled import tile_pooling
from r2t.train.model.tiled.dropout_bits import draw_kept


class InFloat64(TorchFunctionMode):
    """Let `.float()` mean float64, so that a model of float64 weights computes in it throughout."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        return func(*args, **(kwargs or {}))


class Sides(TorchFunctionMode):
    """Remembers which units the ReLUs of a reference let pass, and lets the same pass elsewhere.

    A ReLU is found again by the shape of what it is given, and its turn among those.
    """

    def __init__(self, recorded: Sides | None = None) -> None:
        super().__init__()
        self.passing: dict[torch.Size, list[torch.Tensor]] = {}
        if recorded is not None:
            self.passing = {shape: list(sides) for shape, sides in recorded.passing.items()}
        self._replays = recorded is not None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is not F.relu:
            return func(*args, **(kwargs or {}))
        (values,) = args
        if not self._replays:
            self.passing.setdefault(values.shape, []).append((values > 0).cpu())
        elif self.passing.get(values.shape):
            passing = self.passing[values.shape].pop(0).to(values.device)
            return values.masked_fill(~passing, 0)
        return func(*args, **(kwargs or {}))


@contextmanager
def in_float64() -> Generator[None]:
    """Compute what has no dtype of its own in float64 too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with InFloat64():
            yield
    finally:
        torch.set_default_dtype(before)


class _DrawnOnHost(TorchFunctionMode):
    """Draw what is dropped with the generator of the host, whatever the device."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.rand:
            device = kwargs.pop("device", None)
            return _uniform(*args).to(device)
        if func is F.dropout:
            return _dropped(*args, **kwargs)
        if func is torch.Tensor.bernoulli_:
            values, rate = args
            return values.copy_(_uniform(values.shape) < rate)
        return func(*args, **kwargs)


def _dropped(values: torch.Tensor, p: float, training: bool = True, inplace: bool = False) -> Any:
    if not training or not p:
        return values
    kept = _uniform(values.shape).to(values.device) >= p
    return values * kept / (1 - p)


def _uniform(*shape: Any) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float32)


@contextmanager
def same_draws(seed: int = 0) -> Generator[None]:
    """Draw the same dropout on a GPU as on the CPU, where their tiles are equal."""
    twins: dict[int, tuple[torch.Generator, torch.Generator]] = {}

    def kept_on_host(num_elements: int, rate: float, generator: torch.Generator) -> torch.Tensor:
        seed = generator.initial_seed()
        fresh = generator, torch.Generator().manual_seed(seed)
        _, twin = twins.setdefault(id(generator), fresh)  # it is kept, so its id stays its own
        return draw_kept(num_elements, rate, twin).to(generator.device)

    torch.manual_seed(seed)
    with _DrawnOnHost(), patch.object(tile_pooling, "draw_kept", kept_on_host):
        yield
