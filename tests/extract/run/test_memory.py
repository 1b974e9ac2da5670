"""However many decoders and writers there are, what waits between them stays within bounds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from barcode_videos import SIDE, Recipe, write_video
from features import random_tokens, small_spec

from r2t.extract.clip.clip import FrozenClip
from r2t.extract.clip.embedding import EncodedFrames
from r2t.extract.run.local_run import (
    decode_ahead,
    encode_ahead,
    fitting_windows,
    num_writing_threads,
)
from r2t.extract.run.one_video import FramesDecoded, FramesEncoded, VideoDecoded, VideoJob, in_turns
from r2t.extract.run.progress import StageClock, Tally
from r2t.extract.run.writing import WritingThreads
from r2t.extract.video.decode_pool import DecodePool
from r2t.extract.video.windows import FrameWindows
from r2t.store.check.verify import verify_store
from r2t.store.errors import StoreError
from r2t.store.feature_store import FeatureStore
from r2t.store.features import VideoSource
from r2t.store.video_writer import VideoWriter

MB = 10**6


class CountingWindows(FrameWindows):
    def __init__(self, num_windows: int) -> None:
        super().__init__(num_windows)
        self.num_taken = self.most_held = self.held = 0

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        memory = super().take(shape)
        self.num_taken += 1
        self.held += 1
        self.most_held = max(self.most_held, self.held)
        return memory

    def give(self) -> None:
        self.held -= 1
        super().give()


class Means(FrozenClip):
    """Stands in for a model: a token for each frame, the mean of its pixels."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")

    def encode_frames(self, pixels: np.ndarray) -> EncodedFrames:
        means = pixels.mean(axis=(1, 2, 3)).astype(np.float16)
        return EncodedFrames(means.reshape(1, -1, 1, 1), None)


@pytest.mark.parametrize(
    ("wanted", "window_bytes", "free_bytes", "expected"),
    [(20, MB, 8000 * MB, 20), (20, MB, 80 * MB, 10), (20, 100 * MB, 80 * MB, 1)],
)
def test_windows_are_as_many_as_memory_serves(
    wanted: int, window_bytes: int, free_bytes: int, expected: int
) -> None:
    assert fitting_windows(wanted, window_bytes, free_bytes) == expected


@pytest.mark.parametrize(("device", "cores", "expected"), [("cpu", 64, 1), ("cuda", 64, 32)])
def test_one_thread_writes_beside_a_cpu_and_half_the_cores_beside_a_gpu(
    device: str, cores: int, expected: int
) -> None:
    assert num_writing_threads(torch.device(device), cores) == expected
    assert num_writing_threads(torch.device(device), 1) == 1


@pytest.mark.parametrize("num_windows", [1, 3])
def test_decoders_wait_for_a_window(tmp_path: Path, num_windows: int) -> None:
    path = write_video(tmp_path / "good", Recipe())
    jobs = [VideoJob(str(number), path, 2.0) for number in range(3)]
    windows = CountingWindows(num_windows)
    pool = DecodePool(2, size=SIDE, window=3, windows=windows)
    decoded = decode_ahead(pool, in_turns(jobs), num_threads=2)
    found = encode_ahead(Means(), decoded, StageClock(), num_ahead=1, on_done=windows.give)
    features: dict[str, list[EncodedFrames]] = {job.video_id: [] for job in jobs}
    for event in found:
        if isinstance(event, FramesEncoded):
            features[event.job.video_id].append(event.features)
    with DecodePool(1, size=SIDE) as plain:
        [batch] = plain.stream(path, Fraction(2))
    expected = Means().encode_frames(batch.pixels).tokens
    for parts in features.values():
        np.testing.assert_array_equal(EncodedFrames.joined(parts).tokens, expected)
    assert windows.held == 0
    assert windows.most_held <= num_windows
    assert windows.num_taken == 3 * 4  # ten frames, three at a time


def test_who_waits_for_a_window_goes_when_nobody_reads(tmp_path: Path) -> None:
    path = write_video(tmp_path / "good", Recipe())
    pool = DecodePool(1, size=SIDE, window=1, windows=FrameWindows(1))
    decoded = decode_ahead(pool, in_turns([VideoJob("v", path, 2.0)]), num_threads=1)
    assert isinstance(next(decoded), FramesDecoded)
    decoded.close()  # while the second waits for the first
    assert not [each for each in threading.enumerate() if each.name.startswith("r2t-decode")]


def test_a_window_that_a_decoder_died_over_is_free_again(tmp_path: Path) -> None:
    windows = FrameWindows(1)
    windows.take((1, 3, 2, 2))
    windows.give()
    with pytest.raises(MemoryError):
        FrameWindows(1, _no_memory).take((1, 3, 2, 2))
    windows.close()
    with pytest.raises(RuntimeError, match="no more frames"):
        windows.take((1, 3, 2, 2))


def _no_memory(num_bytes: int) -> np.ndarray:
    raise MemoryError(num_bytes)


VIDEOS = {f"video {number}": random_tokens(9 + number, seed=number) for number in range(6)}


def events() -> Iterator[FramesEncoded | VideoDecoded]:
    """Yield the frames of several videos in turn, two at a time."""
    for first in range(0, 15, 2):
        for video_id, tokens in VIDEOS.items():
            job = VideoJob(video_id, Path(f"{video_id}.mp4"), 0.5)
            num_frames = tokens.shape[1]
            if first < num_frames:
                part = EncodedFrames(tokens[:, first : first + 2], None)
                yield FramesEncoded(job, part, first, num_frames, 2.0 * num_frames)
            if first < num_frames <= first + 2:
                name = f"{video_id}.mp4"
                yield VideoDecoded(
                    job, VideoSource(name=name, num_bytes=1, sha256="0" * 64, decoder="none")
                )


def write_all(folder: Path, num_threads: int, num_windows: int = 8) -> FeatureStore:
    store = FeatureStore.create(folder, small_spec())
    tally = Tally(len(VIDEOS))
    with (
        store.writer() as writer,
        WritingThreads(writer, tally, num_threads=num_threads, num_windows=num_windows) as writing,
    ):
        for event in events():
            writing.take(event)
    assert sorted(tally.done) == sorted(VIDEOS)
    assert not tally.failed
    store.refresh()
    return store


def test_several_writers_write_what_one_does(tmp_path: Path) -> None:
    one, three = (write_all(tmp_path / f"{number}.zarr", number) for number in (1, 3))
    digests = [
        {name: store.video_row(name).digest for name in store.videos["video_id"]}
        for store in (one, three)
    ]
    assert digests[0] == digests[1]
    assert len(digests[0]) == len(VIDEOS)
    assert verify_store(str(tmp_path / "3.zarr")).faults == ()


def test_features_that_wait_are_so_many_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()
    genuine = VideoWriter.append
    go_on = threading.Event()
    num_taken = 0

    def append(self: VideoWriter, tokens: np.ndarray, *more: Any) -> None:
        threads.add(threading.current_thread().name)
        assert go_on.wait(10)
        genuine(self, tokens, *more)

    def feed() -> None:
        nonlocal num_taken
        for event in events():
            writing.take(event)
            num_taken += 1

    monkeypatch.setattr(VideoWriter, "append", append)
    store = FeatureStore.create(tmp_path / "feats.zarr", small_spec())
    with (
        store.writer() as writer,
        WritingThreads(writer, Tally(), num_threads=3, num_windows=5) as writing,
    ):
        feeder = threading.Thread(target=feed)
        feeder.start()
        feeder.join(0.3)
        assert num_taken == 5
        go_on.set()
        feeder.join()
    assert threads == {"r2t-writer-0", "r2t-writer-1", "r2t-writer-2"}


def test_what_one_thread_meets_ends_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = VideoWriter.append

    def append(self: VideoWriter, tokens: np.ndarray, *more: Any) -> None:
        if tokens.shape[1] == 1:  # the last of the first video
            raise OSError(28, "No space left on device")
        genuine(self, tokens, *more)

    monkeypatch.setattr(VideoWriter, "append", append)
    with pytest.raises(StoreError, match="No space left on device"):
        write_all(tmp_path / "feats.zarr", 3, num_windows=2)
    assert not list(tmp_path.glob("*.partial/*"))
    assert not [each for each in threading.enumerate() if each.name.startswith("r2t-writer")]
