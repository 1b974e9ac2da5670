"""Videos in a bucket of a service that fails as told: listed, fetched in ranges, set aside."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from s3_server import S3Request, S3Server, s3_server

from r2t.extract.fetch.config import FetchConfig
from r2t.extract.fetch.listing import list_videos
from r2t.extract.fetch.remote_video import RemoteVideo
from r2t.extract.fetch.scratch import Scratch
from r2t.store.errors import ServerError, VideoError
from r2t.store.sources import connect, moving, retries

CONTENT = bytes(range(256)) * 400
KEYS = ("dog.mp4", "more/a cat?.MKV", "more/.hidden.mp4", ".old/cow.mp4", "rows.csv", "list.txt")


@pytest.fixture(scope="module")
def shared() -> Generator[S3Server]:
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        bucket = connect(f"{server.url}/videos")
        for key in KEYS:
            bucket.create(key, b"dog.mp4\nmore/a cat?.MKV\n" if key == "list.txt" else CONTENT)
        yield server


@pytest.fixture
def server(shared: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    monkeypatch.setattr(retries, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(moving, "_PIECE_BYTES", len(CONTENT) // 4)
    shared.fault = lambda request: None
    shared.count()
    return shared


def test_a_folder_and_a_list_in_a_bucket(server: S3Server) -> None:
    for given in (f"{server.url}/videos", f"{server.url}/videos/list.txt"):
        videos = list_videos(given)
        assert [(video.name, video.stem) for video in videos] == [
            ("dog.mp4", "dog"),
            ("a cat?.MKV", "a cat?"),
        ]
        assert str(videos[1]) == f"{server.url}/videos/more/a cat?.MKV"
    assert server.count()["LIST"] == 1
    assert [video.num_bytes for video in list_videos(f"{server.url}/videos/")] == [102_400] * 2
    with pytest.raises(VideoError, match="it names no videos"):
        list_videos(f"{server.url}/nothing")
    server.fault = lambda request: "denied"
    with pytest.raises(ServerError, match="access denied"):
        list_videos(f"{server.url}/videos")


def test_a_video_of_a_bucket_comes_in_pieces(server: S3Server, tmp_path: Path) -> None:
    video = list_videos(f"{server.url}/videos")[1]
    server.count()
    server.fault = lambda request: "truncate" if request.number % 3 == 0 else None
    with Scratch(FetchConfig(scratch=str(tmp_path))) as scratch:
        with scratch.fetch(video) as fetched:
            assert fetched.reason is None
            assert fetched.path.read_bytes() == CONTENT
        server.fault = lambda request: None
        server.count()
        scratch.fetch(video).stack.close()
        assert server.count() == {"HEAD": 2, "GET": 4}
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_is_replaced_while_it_is_read_is_set_aside(
    server: S3Server, tmp_path: Path
) -> None:
    bucket = connect(f"{server.url}/videos")
    bucket.create("new.mp4", CONTENT)
    seen = bucket.look("new.mp4")
    assert seen is not None
    server.count()
    num_reads = 0

    def replace(request: S3Request) -> None:
        nonlocal num_reads
        num_reads += request.kind == "GET"
        if num_reads == 3:
            num_reads += 1
            assert bucket.replace("new.mp4", CONTENT[::-1], seen)

    server.fault = replace
    url = f"{server.url}/videos/new.mp4"
    with Scratch(FetchConfig(scratch=str(tmp_path))) as scratch:
        reason = scratch.fetch(RemoteVideo(url, url)).reason
    bucket.delete(["new.mp4"])
    assert "was replaced while it was read" in (reason or "")
