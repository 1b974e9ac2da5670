"""Frames on their way to a GPU and back: eight bits out, tokens home, and one wait for them."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from r2t.extract.clip.clip import FrozenClip
from r2t.extract.clip.frame_encoder import FrameEncoder
from r2t.extract.clip.lanes import (
    CudaLane,
    PlainLane,
    held_bytes,
    num_device_lanes,
    open_lane,
    window_memory,
)

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


class LateLane:
    """A GPU at its latest: results are in the host's memory when the work is over, not before."""

    def __init__(self) -> None:
        self.sent: list[torch.dtype] = []
        self.fetched: list[torch.dtype] = []
        self.num_waits = 0
        self._of_thread = threading.local()

    @contextmanager
    def work(self) -> Generator[None]:
        self._of_thread.late = []
        yield
        self.num_waits += 1
        for memory, result in self._of_thread.late:
            memory.copy_(result)

    def send(self, pixels: Tensor) -> Tensor:
        self.sent.append(pixels.dtype)
        return pixels.clone()

    def fetch(self, result: Tensor) -> Tensor:
        self.fetched.append(result.dtype)
        memory = torch.full_like(result, torch.nan)
        self._of_thread.late.append((memory, result))
        return memory


def test_two_lanes_give_the_tokens_of_one(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = FrozenClip.load(str(clip_folder), layers=3, device="cpu", batch_size=4)
    rng = np.random.default_rng(0)
    windows = [rng.integers(0, 256, (size, 3, 32, 32), np.uint8) for size in (9, 4, 1, 10, 6, 3)]
    expected = [clip.encode_frames(window) for window in windows]
    lane = LateLane()
    monkeypatch.setattr(clip.frames, "_lane", lane)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(clip.encode_frames, windows))
    for mine, other in zip(found, expected, strict=True):
        assert mine.tokens.tobytes() == other.tokens.tobytes()
        assert mine.embedding is not None
        assert other.embedding is not None
        assert mine.embedding.tobytes() == other.embedding.tobytes()
    assert lane.num_waits == len(windows)  # whatever the number of their batches
    assert set(lane.sent) == {torch.uint8}
    assert set(lane.fetched) == {torch.float16}


def test_two_threads_that_run_out_of_memory_halve_the_batch_once(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = FrozenClip.load(str(clip_folder), layers=3, device="cpu")
    clip.frames.batch_size = 8
    both = threading.Barrier(2)
    genuine = FrameEncoder._encode_pictures

    def small(self: FrameEncoder, pixels: Tensor) -> object:
        if len(pixels) > 4:
            both.wait(10)
            raise torch.OutOfMemoryError("out of memory")
        return genuine(self, pixels)

    monkeypatch.setattr(FrameEncoder, "_encode_pictures", small)
    windows = [np.zeros((8, 3, 32, 32), np.uint8)] * 2
    with ThreadPoolExecutor(2) as threads:
        assert [each.num_frames for each in threads.map(clip.encode_frames, windows)] == [8, 8]
    assert clip.batch_size == 4


class Calls:
    """What a lane asks of CUDA, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.num_streams = 0
        calls = self

        class Stream:
            def __init__(self, device: torch.device) -> None:
                calls.num_streams += 1
                self.name = f"lane {calls.num_streams}"

            def wait_stream(self, other: str) -> None:
                calls.log.append(f"{self.name} waits for {other}")

        class Event:
            def __init__(self, *, blocking: bool) -> None:
                assert blocking

            def record(self, stream: Stream) -> None:
                calls.log.append(f"mark in {stream.name}")

            def synchronize(self) -> None:
                calls.log.append("the host waits")

        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "the caller's")


def test_a_lane_waits_for_its_weights_and_the_host_for_its_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = Calls(monkeypatch)
    lane = open_lane(CUDA)
    for _ in range(2):
        with lane.work():
            calls.log.append("model")
    once = ["lane 1 waits for the caller's", "model", "mark in lane 1", "the host waits"]
    assert calls.log == 2 * once
    with lane.work(), lane.work():
        assert calls.num_streams == 2
    with pytest.raises(ZeroDivisionError), lane.work():  # the caller's memory is free after that
        raise ZeroDivisionError
    assert calls.log[-1] == "the host waits"
    with lane.work(), lane.work():
        assert calls.num_streams == 2


class Crossings(TorchDispatchMode):
    """Which copies go from one device to another, and whether the host waits for them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, torch.dtype, bool]] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default:
            ends, waits = (args[0], result), not (kwargs or {}).get("non_blocking", False)
        elif func is torch.ops.aten.copy_.default:
            ends, waits = (args[1], args[0]), not (args[2:] and args[2])
        else:
            return result
        if ends[0].device.type != ends[1].device.type:
            here, there = (each.device.type for each in ends)
            self.found.append((here, there, ends[0].dtype, waits))
        return result


def test_copies_do_not_make_the_host_wait() -> None:
    lane, crossings = CudaLane(CUDA), Crossings()
    with FakeTensorMode(), crossings:  # tensors without numbers may claim any device
        pixels = lane.send(torch.empty(2, 3, 4, 4, dtype=torch.uint8))
        memory = lane.fetch(pixels.float().half())
    assert (pixels.device.type, memory.device.type) == ("cuda", "cpu")
    assert crossings.found == [
        ("cpu", "cuda", torch.uint8, False),
        ("cuda", "cpu", torch.float16, False),
    ]


def test_other_devices_have_one_plain_lane() -> None:
    assert isinstance(open_lane(CPU), PlainLane)
    devices = [CPU, CUDA, torch.device("mps")]
    assert [num_device_lanes(device) for device in devices] == [None, 2, 1]


def test_windows_for_a_gpu_are_pinned_and_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine, pinned = torch.empty, []

    def empty(num_bytes: int, *, dtype: torch.dtype, pin_memory: bool) -> Tensor:
        assert pin_memory
        pinned.append(num_bytes)
        return genuine(num_bytes, dtype=dtype)

    assert len(window_memory(CPU, 100)(40)) == 40
    monkeypatch.setattr(torch, "empty", empty)
    assert [len(window_memory(CUDA, 100)(size)) for size in (40, 100, 120)] == [100, 100, 120]
    assert pinned == [100, 100, 120]
    assert [held_bytes(CUDA, size) for size in (1, 100, 128, 129)] == [1, 128, 128, 256]
    assert held_bytes(CPU, 100) == 100
