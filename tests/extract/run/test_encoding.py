"""Windows encoded side by side come out in the order in which they went in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from r2t.extract.clip.clip import FrozenClip
from r2t.extract.run import encoding
from r2t.extract.run.encoding import encode_ahead, encoding_lanes
from r2t.extract.run.stages import StageClock
from r2t.extract.video.decode_ahead import Decoded, VideoJob
from r2t.extract.video.frames import FrameBatch
from r2t.store.errors import ConfigError, VideoError


@pytest.mark.parametrize(
    ("device", "cores", "lanes"),
    [("cpu", 1, (1, 1)), ("cpu", 6, (6, 1)), ("cpu", 64, (16, 4)), ("cuda", 8, (1, 8))],
)
def test_lanes_share_the_cores(device: str, cores: int, lanes: tuple[int, int]) -> None:
    assert encoding_lanes(torch.device(device), cores) == lanes


class SlowFirst(FrozenClip):
    """Stands in for a model: the first window is done only after `later` others have been."""

    def __init__(self, later: int) -> None:
        self.device = torch.device("cpu")
        self.others = threading.Semaphore(0)
        self.later = later
        self.threads: set[int] = set()

    def encode_frames(self, pixels: np.ndarray) -> np.ndarray:
        self.threads.add(torch.get_num_threads())
        number = int(pixels[0, 0, 0, 0])
        if number == 0:
            for _ in range(self.later):
                assert self.others.acquire(timeout=10)
        elif number == 99:
            raise ConfigError("no memory")
        self.others.release()
        return np.full((1, len(pixels), 1, 1), number, np.float16)


def window(number: int) -> FrameBatch:
    return FrameBatch(
        pixels=np.full((1, 3, 2, 2), number, np.uint8),
        timestamps_seconds=np.array([float(number)]),
        first_frame=number,
        num_video_frames=100,
        duration_seconds=100.0,
        decoder="none",
        decode_seconds=0.0,
    )


def decoded(events: list[Decoded]) -> Iterator[tuple[VideoJob, Decoded]]:
    job = VideoJob("v", Path("v.mp4"), 1.0)
    return ((job, event) for event in events)


@pytest.fixture(autouse=True)
def two_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "allowed_cores", lambda: 2)


def encode(clip: FrozenClip, events: list[Decoded], clock: StageClock) -> list[Any]:
    return list(encode_ahead(clip, decoded(events), clock))


def test_order_is_kept_while_a_lane_runs_ahead() -> None:
    clip, clock = SlowFirst(later=5), StageClock({"encode": 2})
    failure = VideoError("broken")
    events: list[Decoded] = [*map(window, range(8)), failure, window(8)]
    found = encode(clip, events, clock)
    assert [event for _, event, _ in found] == events
    values = [None if tokens is None else float(tokens[0, 0, 0, 0]) for _, _, tokens in found]
    assert values == [*range(8), None, 8]
    assert clip.threads == {1}
    [stage] = clock.stages()
    assert (stage.num_frames, stage.num_lanes) == (9, 2)


def test_what_the_model_raises_arrives() -> None:
    with pytest.raises(ConfigError, match="no memory"):
        encode(SlowFirst(later=0), [window(1), window(99), window(2)], StageClock({"encode": 2}))
