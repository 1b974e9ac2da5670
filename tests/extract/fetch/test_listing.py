"""Which videos a list or a URL names, and which it may not."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from video_server import Served, video_server

from r2t.extract.fetch import listing
from r2t.extract.fetch.listing import is_listing, list_videos
from r2t.store.errors import StoreError, VideoError


@pytest.fixture(scope="module")
def served() -> Generator[Served]:
    with video_server() as served:
        yield served


def urls_of(given: str | Path) -> list[str]:
    return [video.url for video in list_videos(str(given))]


def test_a_file_of_urls(tmp_path: Path) -> None:
    path = tmp_path / "urls.TXT"
    path.write_text(
        "\ufeff# two places\nhttps://a.example/x/dog.mp4?token=1\n\n  s3://bucket/deep/a cat.mkv \n"
        "http://b.example/watch/caf%C3%A9\nhttps://a.example/x/dog.mp4?token=1\n",
        encoding="utf-8",
    )
    assert is_listing(str(path))
    videos = list_videos(str(path))
    assert [(video.name, video.stem) for video in videos] == [
        ("dog.mp4", "dog"),
        ("a cat.mkv", "a cat"),
        ("café", "café"),
    ]
    assert str(videos[0]) == "https://a.example/x/dog.mp4"
    assert all(video.asked == video.url for video in videos)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lists_of_any_system_and_joined_ones(tmp_path: Path, end: str) -> None:
    part = ["\ufeff# some", "https://a/1.mp4", "", "  # more", "https://a/2.mp4\t"]
    path = tmp_path / "urls.txt"
    path.write_bytes(end.join([*part, *part, "s3://bucket/a #3.mp4"]).encode())
    videos = list_videos(str(path))
    assert [video.url for video in videos] == [
        "https://a/1.mp4",
        "https://a/2.mp4",
        "s3://bucket/a #3.mp4",
    ]


def test_names_that_systems_give_are_taken(tmp_path: Path) -> None:
    names = ["at 3.45\u202fPM.mov", "日本\u3000語.mp4", "می\u200cروم.mp4"]
    path = tmp_path / "urls.txt"
    path.write_text("\n".join(f"s3://bucket/{name}" for name in names), encoding="utf-8")
    assert [video.name for video in list_videos(str(path))] == names


def test_one_video_by_its_url() -> None:
    [video] = list_videos("https://a.example/dog.MP4?signature=1#t=2")
    assert (video.stem, str(video)) == ("dog", "https://a.example/dog.MP4")
    assert urls_of("gs://bucket/dog.mp4") == ["gs://bucket/dog.mp4"]
    assert not is_listing("videos")
    assert not is_listing("dog.mp4")


def test_a_list_behind_a_url(served: Served) -> None:
    served.files["list.txt"] = (
        f"dog.mp4\nmore/cat.mp4\n/other/cow.mp4\n{served.url}/b/fox.mp4\nhttps://b.example/hen.mp4\n"
    ).encode()
    given = f"{served.url}/whole/list.txt"
    assert urls_of(given) == [
        f"{served.url}/whole/dog.mp4",
        f"{served.url}/whole/more/cat.mp4",
        f"{served.url}/other/cow.mp4",
        f"{served.url}/b/fox.mp4",
        "https://b.example/hen.mp4",
    ]
    assert {video.asked for video in list_videos(given)} == {given}


@pytest.mark.parametrize(
    "line", ["file:///etc/passwd", "s3://bucket/dog.mp4", "ftp://a/dog.mp4", "zip::file:///x.zip"]
)
def test_a_fetched_list_names_nothing_of_other_kinds(served: Served, line: str) -> None:
    served.files["bad.txt"] = f"dog.mp4\n{line}\n".encode()
    with pytest.raises(VideoError, match=r"/whole/bad\.txt, line 2: .*may name http and https"):
        list_videos(f"{served.url}/whole/bad.txt")
    with pytest.raises(VideoError, match="is no URL: Invalid IPv6"):
        listing._beside("https://a.example/list.txt", "https://[::1/dog.mp4")
    with pytest.raises(VideoError, match="may name https URLs alone"):
        listing._beside("https://a.example/list.txt", "http://a.example/dog.mp4")


def test_a_list_in_a_bucket_stays_in_it() -> None:
    place = "s3://bucket/folder/list.txt"
    assert listing._beside(place, "dog.mp4") == "s3://bucket/folder/dog.mp4"
    assert listing._beside(place, "s3://bucket/other/dog.mp4") == "s3://bucket/other/dog.mp4"
    for line in ("s3://other/dog.mp4", "https://a.example/dog.mp4", "../../other/dog.mp4"):
        with pytest.raises(VideoError, match="objects of that bucket alone"):
            listing._beside(place, line)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# nothing\n", "it names no videos"),
        (b"dog.mp4\n", r"line 1: 'dog\.mp4' is no URL; a folder of files is given as such"),
        (b"https://a/1.mp4\nfile:///etc/passwd\n", r"line 2: file:///etc/passwd: give a folder"),
        (b"https://a/x/\n", "line 1: https://a/x/: its last part is no file name"),
        (b"https://a/x%2Fdog.mp4\n", "its last part is no file name"),
        (b"https://a/%FF.mp4\n", "its last part is no file name"),
        (b"https://[::1/dog.mp4?k=secret\n", r"line 1: https://\[::1/dog\.mp4: give"),
        (b"https://a:port/dog.mp4\n", "line 1: https://a:port/dog.mp4: give"),
        (b"https://a/x/dog.mp4\nhttps://me:pw@a/y/dog.mkv?k=1\n", "https://a/y/dog.mkv would both"),
        (b"\xff\xfe", "is no list of URLs in UTF-8; save it as such"),
        (b"https://a/\x1b[31m1.mp4\n", "line 1: .* has characters that are in no URL"),
        ("https://a/1.mp4\u2028https://a/2.mp4".encode(), "has characters that are in no URL"),
    ],
)
def test_a_list_that_is_none(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "urls.txt"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=message):
        list_videos(str(path))


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("whole/absent.txt", "there is no such list"),
        ("page/list.txt", "the server sends a page, not a list"),
        ("endless/list.txt", "the list is over 1,000,000 bytes"),
        ("refused/list.txt", "access denied"),
        ("whole/list", "which ends in .txt"),
    ],
)
def test_a_list_that_cannot_be_had(
    served: Served, way: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MOST_LIST_BYTES", 1_000_000)
    served.files["list.txt"] = served.files["list"] = b"dog.mp4\n" * 1000
    with pytest.raises((VideoError, StoreError), match=message) as caught:
        list_videos(f"{served.url}/{way}?token=secret")
    assert "secret" not in str(caught.value)
    with pytest.raises(VideoError, match=r"absent\.txt does not exist"):
        list_videos("absent.txt")
    with pytest.raises(VideoError, match=r"file:///x/dog\.mp4: give a folder in a bucket"):
        list_videos("file:///x/dog.mp4")
