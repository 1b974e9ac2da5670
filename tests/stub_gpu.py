"""A GPU on the host: streams whose work runs as late, or as early, as their marks allow.

It counts what a real one is asked for, and refuses copies that would make the host wait.
"""

from __future__ import annotations

import random
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from r2t.train.data.transfer import Mark

When = Literal["at once", "late", "copies first", "model first", "random"]
ORDERS: tuple[When, ...] = ("at once", "late", "copies first", "model first", "random")


class StubMark:
    def __init__(self, gpu: StubGpu, stream: Stream) -> None:
        self.done = False
        self._gpu, self._stream = gpu, stream

    def synchronize(self) -> None:
        self._gpu.num_waits += 1
        self._gpu.finish(self)

    def require(self) -> None:
        """Run the work before it, as far as it has not run, and what that waits for."""
        while not self.done:
            self._stream.step()


@dataclass(eq=False)
class Task:
    work: Callable[[], None]
    after: StubMark | None
    end: StubMark


@dataclass(eq=False)
class Stream:
    tasks: deque[Task] = field(default_factory=deque)

    def ready(self) -> bool:
        return bool(self.tasks) and (self.tasks[0].after is None or self.tasks[0].after.done)

    def step(self) -> None:
        task = self.tasks[0]
        if task.after is not None:
            task.after.require()
        task.work()
        task.end.done = True
        self.tasks.popleft()


class Copies(TorchDispatchMode):
    """Counts copies into the device, and refuses those that do not come from pinned memory."""

    def __init__(self, gpu: StubGpu) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.ops.aten.copy_.default:
            target, source = cast("tuple[Tensor, Tensor]", args[:2])
            assert self._gpu.owns("device", target)
            if not self._gpu.owns("device", source):
                assert self._gpu.owns("host", source), "a copy from pageable memory"
                assert source.is_contiguous(), "a copy through memory of torch's own"
                assert target.is_contiguous()
                self._gpu.copied_bytes.append(source.nbytes)
        return func(*args, **(kwargs or {}))


class StubGpu:
    def __init__(self, when: When = "at once", seed: int = 0, free_bytes: int = 10**9) -> None:
        self.when: When = when
        self.free_bytes = free_bytes
        self.copied_bytes: list[int] = []
        self.num_waits = 0
        self.num_allocations = 0
        self.reserved_bytes = 0  # on the device, with what was let go and is kept all the same
        self._random = random.Random(seed)
        self._copies, self._model = Stream(), Stream()
        self._blocks: dict[str, list[weakref.ref[Any]]] = {"host": [], "device": []}

    def host_memory(self, num_bytes: int) -> Tensor:
        return self._allocate("host", num_bytes)

    def device_memory(self, num_bytes: int) -> Tensor:
        self.reserved_bytes += num_bytes
        return self._allocate("device", num_bytes)

    def free_device_bytes(self) -> int:
        return self.free_bytes

    def release(self) -> None:
        self.reserved_bytes = self.held_bytes("device")

    def run(self, work: Callable[[], None], *, after: Mark | None = None) -> StubMark:
        def counted() -> None:
            with Copies(self):
                work()

        return self._put(self._copies, counted, after)

    def mark_model(self) -> StubMark:
        return self.compute(lambda: None)

    def compute(self, work: Callable[[], None]) -> StubMark:
        """Put work into the model's stream, as a model does."""
        return self._put(self._model, work, None)

    def finish(self, mark: StubMark | None = None) -> None:
        """Run all work, or what has to run for a mark."""
        if mark is not None:
            mark.require()
            return
        for stream in (self._copies, self._model):
            while stream.tasks:
                stream.step()

    def held_bytes(self, kind: str) -> int:
        return sum(len(block) for ref in self._blocks[kind] if (block := ref()) is not None)

    def owns(self, kind: str, tensor: Tensor) -> bool:
        place = tensor.untyped_storage().data_ptr()
        return any(
            block.untyped_storage().data_ptr() == place
            for ref in self._blocks[kind]
            if (block := ref()) is not None
        )

    def _allocate(self, kind: str, num_bytes: int) -> Tensor:
        self.num_allocations += 1
        memory = torch.full((num_bytes,), 0x7F, dtype=torch.uint8)
        self._blocks[kind].append(weakref.ref(memory))
        return memory

    def _put(self, stream: Stream, work: Callable[[], None], after: Mark | None) -> StubMark:
        mark = StubMark(self, stream)
        assert after is None or isinstance(after, StubMark)
        stream.tasks.append(Task(work, after, mark))
        if self.when == "at once":
            self.finish()
        first = {"copies first": [self._copies], "model first": [self._model]}.get(self.when, [])
        if self.when == "random":
            first = self._random.choices([self._copies, self._model], k=self._random.randrange(6))
        for each in first:
            while each.ready():
                each.step()
                if self.when == "random":
                    break
        return mark
