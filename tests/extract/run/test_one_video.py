"""What becomes of a video is the same wherever it is extracted: written whole, or set aside."""

from __future__ import annotations

import errno
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from barcode_videos import Recipe, write_video
from features import small_spec

from r2t.extract.clip.embedding import EncodedFrames
from r2t.extract.fetch.scratch import FetchedVideo
from r2t.extract.run import one_video
from r2t.extract.run.one_video import (
    FramesEncoded,
    VideoDecoded,
    VideoFailed,
    VideoJob,
    VideoSink,
    decode_video,
)
from r2t.extract.run.progress import Tally
from r2t.extract.video.decode_pool import DecodePool
from r2t.store.errors import StoreError
from r2t.store.feature_store import FeatureStore
from r2t.store.features import VideoSource
from r2t.store.format.nodes import storage_errors
from r2t.store.video_writer import VideoWriter


def job(video_id: str) -> VideoJob:
    return VideoJob(video_id, Path(f"{video_id}.mp4"), 0.5)


def end(video_id: str) -> VideoDecoded:
    source = VideoSource(name=f"{video_id}.mp4", num_bytes=1, sha256="0" * 64, decoder="none")
    return VideoDecoded(job(video_id), source)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.create(tmp_path / "feats.zarr", small_spec())


def frames(store: FeatureStore, video_id: str, first: int, value: float = 1.0) -> FramesEncoded:
    """Return two frames of four."""
    spec = store.spec
    shape = (spec.num_layers, 2, spec.num_tokens, spec.vision_width)
    features = EncodedFrames(np.full(shape, value, np.float16), None)
    return FramesEncoded(job(video_id), features, first, 4, 8.0)


def test_a_video_that_fails_costs_no_other(store: FeatureStore) -> None:
    tally = Tally(3)
    with store.writer() as writer, VideoSink(writer, tally) as sink:
        sink.take(frames(store, "good", 0))
        sink.take(frames(store, "broken", 0))
        sink.take(VideoFailed(job("broken"), "its last frames are damaged"))
        sink.take(frames(store, "endless", 0))
        sink.take(frames(store, "nan", 0, float("nan")))
        sink.take(end("nan"))
        sink.take(frames(store, "good", 2))
        sink.take(end("good"))
    store.refresh()
    assert tally.done == ["good"]
    assert list(tally.failed) == ["broken", "nan"]
    assert tally.failed["broken"] == "its last frames are damaged"
    assert "tokens hold NaN" in tally.failed["nan"]
    assert store.videos["video_id"].tolist() == ["good"]
    assert not list(Path(store.location).parent.glob("*.partial/*"))


@pytest.mark.parametrize("told", [False, True], ids=["the disk's error", "the store's error"])
def test_a_disk_that_refuses_concerns_all_videos_and_says_once_what_to_do(
    told: bool, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        with storage_errors(Path("feats.zarr")) if told else nullcontext():
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(VideoWriter, "append", refuse)
    tally = Tally()
    with (
        store.writer() as writer,
        VideoSink(writer, tally) as sink,
        pytest.raises(StoreError, match=r"No space left on device\.") as refused,
    ):
        sink.take(frames(store, "any", 0))
    assert str(refused.value).count("What was committed is safe") == 1
    assert tally.failed == {}


def test_a_file_that_vanishes_fails_its_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "gone", Recipe())
    honest = one_video.file_sha256

    def too_late(path: Path) -> str:
        path.unlink()
        return honest(path)

    monkeypatch.setattr(one_video, "file_sha256", too_late)
    with DecodePool(size=8) as pool:
        *_, last = decode_video(pool, VideoJob("gone", path, 1.0), FetchedVideo(path))
    assert isinstance(last, VideoFailed)
    assert "cannot be read" in last.reason
