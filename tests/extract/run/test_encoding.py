"""Windows encoded side by side come out in the order in which they went in."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from r2t.extract.clip.clip import FrozenClip
from r2t.extract.clip.embedding import EncodedFrames
from r2t.extract.run import local_run
from r2t.extract.run.local_run import encode_ahead, encoding_lanes
from r2t.extract.run.one_video import (
    FramesDecoded,
    FramesEncoded,
    VideoEnd,
    VideoFailed,
    VideoJob,
)
from r2t.extract.run.progress import StageClock
from r2t.extract.video.frames import FrameBatch
from r2t.store.errors import ConfigError


@pytest.mark.parametrize(
    ("device", "cores", "lanes"),
    [
        ("cpu", 1, (1, 1)),
        ("cpu", 6, (6, 1)),
        ("cpu", 64, (16, 4)),
        ("cuda", 8, (2, 4)),
        ("cuda", 1, (2, 1)),
        ("mps", 8, (1, 8)),
    ],
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

    def encode_frames(self, pixels: np.ndarray) -> EncodedFrames:
        self.threads.add(torch.get_num_threads())
        number = int(pixels[0, 0, 0, 0])
        if number == 0:
            for _ in range(self.later):
                assert self.others.acquire(timeout=10)
        elif number == 99:
            raise ConfigError("no memory")
        self.others.release()
        return EncodedFrames(np.full((1, len(pixels), 1, 1), number, np.float16), None)


JOB = VideoJob("v", Path("v.mp4"), 1.0)


def window(number: int) -> FramesDecoded:
    batch = FrameBatch(
        pixels=np.full((1, 3, 2, 2), number, np.uint8),
        timestamps_seconds=np.array([float(number)]),
        first_frame=number,
        num_video_frames=100,
        duration_seconds=100.0,
        decoder="none",
        decode_seconds=2.0,
    )
    return FramesDecoded(JOB, batch)


@pytest.fixture(autouse=True)
def two_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_run, "allowed_cores", lambda: 2)


def test_order_is_kept_while_a_lane_runs_ahead() -> None:
    clip, clock = SlowFirst(later=5), StageClock()
    failure = VideoFailed(JOB, "broken")
    events: list[FramesDecoded | VideoEnd] = [*map(window, range(8)), failure, window(8)]
    found = list(encode_ahead(clip, events, clock, num_ahead=8))
    assert found[8] is failure
    frames = [event for event in found if isinstance(event, FramesEncoded)]
    assert len(found) == len(frames) + 1
    values = [float(each.features.tokens[0, 0, 0, 0]) for each in frames]
    assert values == [each.first_frame for each in frames] == [*range(9)]
    assert clip.threads == {1}
    stages = {each.name: each for each in clock.stages()}
    assert [stages[name].num_frames for name in ("decode", "encode", "write")] == [9, 9, 0]
    assert stages["decode"].busy_seconds == 9 * 2


def test_what_the_model_raises_arrives() -> None:
    events = [window(1), window(99), window(2)]
    with pytest.raises(ConfigError, match="no memory"):
        list(encode_ahead(SlowFirst(later=0), events, StageClock(), num_ahead=8))
