"""How frames get onto a device and what it makes of them back, while it computes.

On a GPU each thread that encodes works in a stream of its own, in which copies in, the model and
copies out follow one another: one lane copies while another computes. They share nothing but the
weights, so none waits for another, and the host waits once, where it takes the results. Copies run
beside the host only from and into pinned memory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor


@runtime_checkable
class Lane(Protocol):
    """The way of frames onto a device and of results back."""

    def work(self) -> AbstractContextManager[None]:
        """Return a context after whose end the results fetched inside may be read."""
        ...

    def send(self, pixels: Tensor) -> Tensor:
        """Return what is on the host as a tensor on the device."""
        ...

    def fetch(self, result: Tensor) -> Tensor:
        """Return memory on the host that a result will be in."""
        ...


class PlainLane:
    """Copies that the host waits for; on a CPU there are none."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def work(self) -> AbstractContextManager[None]:
        """Return a context in which everything is done at once."""
        return nullcontext()

    def send(self, pixels: Tensor) -> Tensor:
        """Copy to the device."""
        return pixels.to(self._device)

    def fetch(self, result: Tensor) -> Tensor:
        """Copy from the device."""
        return result.cpu()


class CudaLane:
    """As many streams as threads work at a time: torch keeps freed memory for its stream alone."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._idle: list[torch.cuda.Stream] = []

    @contextmanager
    def work(self) -> Generator[None]:
        """Put what is done inside into a stream of the caller's own, and at the end wait for it."""
        try:
            stream = self._idle.pop()
        except IndexError:
            stream = torch.cuda.Stream(self._device)
        # The caller's stream may still be making what is computed with: the weights.
        stream.wait_stream(torch.cuda.current_stream(self._device))
        try:
            with torch.cuda.stream(stream):
                yield
        finally:  # after an error too: the caller's memory may still be copied from
            end = torch.cuda.Event(blocking=True)  # the host sleeps; by default it watches
            end.record(stream)
            end.synchronize()
            self._idle.append(stream)

    def send(self, pixels: Tensor) -> Tensor:
        """Put a copy to the device into the stream."""
        return pixels.to(self._device, non_blocking=True)

    def fetch(self, result: Tensor) -> Tensor:
        """Put a copy into pinned memory into the stream."""
        memory = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
        return memory.copy_(result, non_blocking=True)


def open_lane(device: torch.device) -> Lane:
    """Return the way to a device that suits it."""
    return CudaLane(device) if device.type == "cuda" else PlainLane(device)


def num_device_lanes(device: torch.device) -> int | None:
    """Return how many threads a device serves at a time; None leaves a CPU to its cores."""
    if device.type == "cpu":
        return None
    return 2 if device.type == "cuda" else 1


def window_memory(
    device: torch.device, window_bytes: int
) -> Callable[[int], UInt8[np.ndarray, " bytes"]]:
    """Return what makes memory for a window of frames that a device can copy from by itself.

    Torch keeps pinned memory that is let go for others of its size, so all windows have one.
    """
    if device.type != "cuda":
        return lambda num_bytes: np.empty(num_bytes, np.uint8)
    return lambda num_bytes: torch.empty(
        max(num_bytes, window_bytes), dtype=torch.uint8, pin_memory=True
    ).numpy()


def held_bytes(device: torch.device, num_bytes: int) -> int:
    """Return what memory of so many bytes takes: torch rounds pinned memory to a power of two."""
    return 1 << (num_bytes - 1).bit_length() if device.type == "cuda" else num_bytes
