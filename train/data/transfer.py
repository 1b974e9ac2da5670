"""What a ring asks of a GPU; the only place here that knows CUDA's streams and pinned memory.

A stream is a queue of work: what is put into it runs later, in order, while the host goes on. One
copies, another computes, and marks say how far each has come.
"""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Callable
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from r2t.store.errors import ConfigError

_PORTABLE = 1  # cudaHostRegisterPortable


@runtime_checkable
class Mark(Protocol):
    """A point in a stream's work."""

    def synchronize(self) -> None:
        """Wait on the host until the work before it is done."""
        ...


@runtime_checkable
class Transfer(Protocol):
    """Memory that a device copies from and into, and a stream of copies beside the model's own."""

    def host_memory(self, num_bytes: int) -> Tensor:
        """Return bytes on the host from which the device can copy while the host goes on."""
        ...

    def device_memory(self, num_bytes: int) -> Tensor:
        """Return bytes on the device; work that is in the model's stream by now may touch them."""
        ...

    def free_device_bytes(self) -> int:
        """Return how much of the device's memory is free."""
        ...

    def release(self) -> None:
        """Return freed memory to the device; otherwise it is kept for others of the same size."""
        ...

    def run(self, work: Callable[[], None], *, after: Mark | None = None) -> Mark:
        """Put work into the stream of copies, to begin after a mark; return the mark of its end."""
        ...

    def mark_model(self) -> Mark:
        """Mark how far the model's stream will have come with what is in it by now."""
        ...


class CudaTransfer:
    """`Transfer` to a GPU; the model's stream is the one that is current where it is called."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies = torch.cuda.Stream(device)

    def host_memory(self, num_bytes: int) -> Tensor:
        """Register pages of the host's memory, which takes just what is asked for.

        torch's own pinned memory is rounded up to a power of two, and kept when it is let go.
        """
        num_bytes = -(-num_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        memory = torch.empty(num_bytes + mmap.PAGESIZE, dtype=torch.uint8)
        start = -memory.data_ptr() % mmap.PAGESIZE  # no page is shared with what is not registered
        memory = memory[start : start + num_bytes]
        runtime = cast("Any", torch.cuda.cudart())
        with torch.cuda.device(self._device):  # else the first GPU would be taken up as well
            code = int(runtime.cudaHostRegister(memory.data_ptr(), num_bytes, _PORTABLE))
        if code:
            raise ConfigError(
                f"the GPU's driver cannot pin {num_bytes / 1e9:.2f} GB of the host's memory (CUDA "
                f"error {code}): give a smaller --batch-size or, in training, a smaller "
                "--prefetch or --buffer-gb"
            )
        forget = weakref.finalize(memory, self._unregister, memory.data_ptr())
        forget.atexit = False  # CUDA may be gone by then, and takes it along
        return memory

    def _unregister(self, address: int) -> None:
        with torch.cuda.device(self._device):
            cast("Any", torch.cuda.cudart()).cudaHostUnregister(address)

    def device_memory(self, num_bytes: int) -> Tensor:
        """Allocate in the model's stream, as the model does."""
        return torch.empty(num_bytes, dtype=torch.uint8, device=self._device)

    def free_device_bytes(self) -> int:
        """Ask the driver."""
        return torch.cuda.mem_get_info(self._device)[0]

    def release(self) -> None:
        """Empty torch's cache of memory on the GPU."""
        torch.cuda.empty_cache()

    def run(self, work: Callable[[], None], *, after: Mark | None = None) -> Mark:
        """Put work into the stream of copies."""
        # Who waits for it sleeps: by default the host would watch it with a whole core.
        end = torch.cuda.Event(blocking=True)
        with torch.cuda.stream(self._copies):
            if after is not None:
                self._copies.wait_event(cast("torch.cuda.Event", after))
            work()
            end.record(self._copies)
        return end

    def mark_model(self) -> Mark:
        """Record an event in the current stream."""
        mark = torch.cuda.Event()
        mark.record(torch.cuda.current_stream(self._device))
        return mark
