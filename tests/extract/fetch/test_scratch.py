"""Videos fetched from servers that fail, into a folder that is bounded and left empty."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace

import pytest
from video_server import Served, video_server

from r2t.extract.fetch import shared_disk
from r2t.extract.fetch.ahead import FetchAhead
from r2t.extract.fetch.config import FetchConfig
from r2t.extract.fetch.landing import Landing
from r2t.extract.fetch.remote_video import RemoteVideo, VideoLocation
from r2t.extract.fetch.room import Room, RoomClosedError
from r2t.extract.fetch.scratch import Scratch
from r2t.extract.fetch.shared_disk import SharedDisk
from r2t.extract.fetch.turns import Turns
from r2t.store.errors import ConfigError, ServerError, StoreError, VideoError, VideoWarning
from r2t.store.sources import http, moving, retries
from r2t.store.work_folders import WorkFolder

CONTENT = bytes(range(256)) * 4000


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    path = tmp_path_factory.mktemp("files") / "dog.mp4"
    path.write_bytes(CONTENT)
    with video_server(path) as served:
        yield served


@pytest.fixture
def served(shared: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    monkeypatch.setattr(http, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(retries, "_FIRST_PAUSE_SECONDS", 0.001)
    shared.requests.clear()
    shared.taken = taken = threading.Event()
    keep = Landing.keep

    def keep_and_tell(landing: Landing, piece: bytes) -> None:
        keep(landing, piece)
        taken.set()

    monkeypatch.setattr(Landing, "keep", keep_and_tell)
    return shared


def remote(served: Served, way: str, name: str = "dog.mp4") -> RemoteVideo:
    url = f"{served.url}/{way}/{name}"
    return RemoteVideo(url, url)


def bounds(folder: Path, **changes: float) -> FetchConfig:
    return FetchConfig(scratch=str(folder), **changes)  # type: ignore[arg-type]


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("way", ["whole", "unsized", "cut", "replaced", "elsewhere"])
def test_a_video_is_here_until_it_is_left(served: Served, tmp_path: Path, way: str) -> None:
    with Scratch(bounds(tmp_path)) as scratch:
        with scratch.fetch(remote(served, way)) as video:
            assert video.reason is None
            assert video.path.read_bytes() == CONTENT
            assert video.path.name == "dog.mp4"
        assert files_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    first, *more = [given for _, given in served.requests]
    assert first == ""
    if way in ("cut", "replaced"):  # goes on about where it stopped, or is told to begin anew
        assert [given.startswith("bytes=") for given in more] == [True]
    else:
        assert more == ([""] if way == "elsewhere" else [])


def test_a_long_video_goes_on_however_often_it_is_interrupted(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "_ATTEMPTS", 1)
    with Scratch(bounds(tmp_path)) as scratch:
        assert "not completed" in (scratch.fetch(remote(served, "cut", "dog.mp4?1")).reason or "")
        monkeypatch.setattr(moving, "_PIECE_BYTES", 2000)
        assert served.taken is not None
        served.taken.clear()
        with scratch.fetch(remote(served, "cut", "dog.mp4?2")) as video:
            assert video.path.read_bytes() == CONTENT


@pytest.mark.filterwarnings("default::r2t.store.errors.ServerWarning")
@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("short", f"after 5 attempts: .*of {2 * len(CONTENT)} bytes"),
        ("stalled", "after 3 attempts: .*sent nothing for"),
        ("dripping", r"after 0\.3 s \d+ bytes of it had come: .*--fetch-timeout"),
        ("endless", "it has over 5,000,000 bytes, the limit: .*--max-video-size"),
        ("page", "sent a page, not a video"),
        ("disguised", "sent a page, not a video"),
        ("busy", "the server answers 503"),
        ("refused", "access denied"),
        ("round", "redirects the request more than 5 times"),
        ("downhill", "redirects the request to file://None, which is not followed"),
    ],
)
def test_what_cannot_be_fetched_has_its_reason(
    served: Served, tmp_path: Path, way: str, reason: str
) -> None:
    config = bounds(
        tmp_path, max_video_bytes=5_000_000, max_seconds=0.3 if way == "dripping" else 60
    )
    with Scratch(config) as scratch:
        video = scratch.fetch(remote(served, way))
        assert video.reason is not None
        with pytest.raises(VideoError, match=reason):
            raise VideoError(video.reason)
        assert served.url in video.reason
        assert files_in(tmp_path) == []
        assert scratch._room._used == 0
        with scratch.fetch(remote(served, "whole")) as good:
            assert good.reason is None


def test_a_missing_and_a_too_large_video(served: Served, tmp_path: Path) -> None:
    with Scratch(bounds(tmp_path, scratch_bytes=5000)) as scratch:
        assert scratch.fetch(remote(served, "whole", "cat.mp4")).reason == (
            f"{served.url}/whole/cat.mp4: there is no such file"
        )
        assert "fetched videos may take 5,000 here" in (
            scratch.fetch(remote(served, "whole")).reason or ""
        )
    with Scratch(bounds(tmp_path, max_video_bytes=5000)) as scratch:
        assert "it has over 5,000 bytes" in (scratch.fetch(remote(served, "whole")).reason or "")


def test_no_reason_holds_credentials(served: Served, tmp_path: Path) -> None:
    place = served.url.removeprefix("http://")
    url = f"http://me:secret@{place}/busy/dog.mp4?X-Signature=secret:1"
    video = RemoteVideo(url, url)
    assert (str(video), video.name, video.stem) == (
        f"http://{place}/busy/dog.mp4",
        "dog.mp4",
        "dog",
    )
    with Scratch(bounds(tmp_path)) as scratch:
        reason = scratch.fetch(video).reason
    assert "secret" not in f"{reason} {video!r} {video}"
    assert "cannot read" in (reason or "")


def test_who_says_nothing_of_a_video_is_told_from_who_refuses_it(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "_FIRST_PAUSE_SECONDS", 0.0)
    gone = RemoteVideo("http://127.0.0.1:9/dog.mp4", "http://127.0.0.1:9/dog.mp4")
    with Scratch(bounds(tmp_path)) as scratch:
        for video in (gone, remote(served, "busy"), remote(served, "short")):
            found = scratch.fetch(video)
            assert found.silence == found.reason is not None
        for video in (
            remote(served, "refused"),
            remote(served, "round"),
            remote(served, "page"),
            remote(served, "whole", "absent.mp4"),
        ):
            found = scratch.fetch(video)
            assert (found.silence, found.reason is None) == (None, False)


def test_a_bucket_whose_credentials_are_refused_answers_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = RemoteVideo("s3://bucket/dog.mp4", "s3://bucket")
    error = ServerError("s3://bucket/dog.mp4: the credentials have expired")

    def fail(*_: object, **__: object) -> bool:
        raise error

    monkeypatch.setattr("r2t.extract.fetch.scratch.move_file", fail)
    with Scratch(bounds(tmp_path)) as scratch:
        assert scratch.fetch(video).silence == str(error)
        error.__cause__ = PermissionError("of this object")
        assert scratch.fetch(video).silence is None


def test_a_folder_that_cannot_be_written(served: Served, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        Scratch(bounds(tmp_path / "file")) as scratch,
        pytest.raises(StoreError, match=r"cannot keep fetched videos: .*--scratch"),
    ):
        scratch.fetch(remote(served, "whole"))


def test_a_folder_of_another_user_is_not_trusted(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with (
        Scratch(bounds(tmp_path)) as scratch,
        pytest.raises(
            StoreError, match=r"r2t-videos-12345\.partial is not .* own folder; .*--scratch"
        ),
    ):
        scratch.fetch(remote(served, "whole"))


def test_a_link_that_another_has_laid_costs_no_files(served: Served, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "old"
    mine.mkdir(parents=True)
    (mine / "letter.txt").touch()
    for path in (mine / "letter.txt", mine):
        os.utime(path, (0, 0))
    (tmp_path / f"r2t-videos-{os.getuid()}.partial").symlink_to(tmp_path / "mine")
    with (
        Scratch(bounds(tmp_path)) as scratch,
        pytest.raises(StoreError, match="own folder"),
    ):
        scratch.fetch(remote(served, "whole"))
    assert (mine / "letter.txt").exists()


@pytest.mark.parametrize("way", ["mixed", "gap", "tail", "never"])
def test_what_is_no_whole_file_of_one_version_is_never_kept(
    served: Served, tmp_path: Path, way: str
) -> None:
    with Scratch(bounds(tmp_path)) as scratch, scratch.fetch(remote(served, way)) as video:
        if way in ("tail", "never"):
            assert "the server sends no whole file" in (video.reason or "")
        else:
            assert video.path.read_bytes() == CONTENT
    assert len(served.requests) <= 3


def test_a_transfer_that_always_breaks_off_ends(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "_PIECE_BYTES", 2000)
    with Scratch(bounds(tmp_path, max_seconds=5)) as scratch:
        assert "not completed" in (scratch.fetch(remote(served, "always")).reason or "")
    assert len(served.requests) < 20


def test_fetching_ahead_stays_within_its_bounds(served: Served, tmp_path: Path) -> None:
    """Room for three videos; they are taken one at a time, and each is counted while it is here."""
    jobs: list[tuple[int, VideoLocation]] = [
        (number, remote(served, "whole", f"dog.mp4?{number}")) for number in range(12)
    ]
    jobs.insert(5, (12, Path(__file__)))
    scratch = Scratch(bounds(tmp_path, scratch_bytes=3 * len(CONTENT) + 5))
    ahead = FetchAhead(scratch, Turns(jobs), num_held=6)
    taken: list[int] = []
    while item := ahead.take():
        job, video = item
        with video:
            assert video.reason is None
            assert video.path.exists()
            assert sum(path.stat().st_size for path in files_in(tmp_path)) <= 3 * len(CONTENT)
            taken.append(job)
    assert sorted(taken) == list(range(13))
    assert Path(__file__).exists()
    ahead.close()
    assert list(tmp_path.iterdir()) == []


def test_a_dead_server_at_the_head_of_a_list_stands_in_nobodys_way(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "_FIRST_PAUSE_SECONDS", 0.0)
    gone = [f"http://127.0.0.1:9/{number}.mp4" for number in range(30)]
    jobs: list[tuple[int, VideoLocation]] = [
        (number, RemoteVideo(url, url)) for number, url in enumerate(gone)
    ]
    jobs += [(100 + n, remote(served, "whole", f"dog.mp4?{n}")) for n in range(5)]
    turns = Turns(jobs)
    ahead = FetchAhead(Scratch(bounds(tmp_path)), turns, num_held=8)
    fetched: set[int] = set()
    while item := ahead.take():
        with item[1] as video:
            fetched |= {item[0]} if video.reason is None else set()
    ahead.close()
    assert fetched == set(range(100, 105))
    [left] = turns.left()
    assert (left.server, sorted(left.jobs)) == ("http://127.0.0.1:9", list(range(30)))
    assert "cannot read" in left.reason


def test_an_end_reaches_who_waits(served: Served, tmp_path: Path) -> None:
    jobs = [(number, remote(served, "whole", f"dog.mp4?{number}")) for number in range(5)]
    ahead = FetchAhead(Scratch(bounds(tmp_path)), Turns(jobs), num_held=1)
    held = ahead.take()
    assert held is not None
    waiting = threading.Thread(target=ahead.take, daemon=True)
    waiting.start()
    ahead.close()
    waiting.join(20)
    assert not waiting.is_alive()
    assert list(tmp_path.iterdir()) == []


def test_room_is_given_in_turn() -> None:
    room = Room(10)
    room.claim(6)
    order: list[int] = []

    def claim(num_bytes: int) -> None:
        room.claim(num_bytes)
        order.append(num_bytes)

    large = threading.Thread(target=claim, args=(10,))
    large.start()
    while not room._turn.locked():
        pass
    small = threading.Thread(target=claim, args=(1,))
    small.start()
    room.give_back(6)
    large.join()
    room.give_back(10)
    small.join()
    assert order == [10, 1]


def test_processes_share_a_disk_without_filling_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 10 MB each wants 6, and nine tenths may be taken in all: one waits for the other."""
    monkeypatch.setattr(shared_disk, "_PATIENCE_SECONDS", 0.01)
    given = 10_000_000

    def usage(folder: Path) -> SimpleNamespace:
        taken = sum(path.lstat().st_blocks * 512 for path in files_in(folder))
        return SimpleNamespace(free=given - taken)

    monkeypatch.setattr("shutil.disk_usage", usage)
    root = tmp_path / "videos"
    works = [WorkFolder(root) for _ in range(3)]
    with works[0] as one, works[1] as two, works[2]:
        disks = [SharedDisk(root) for _ in range(2)]
        files = [work.path / "dog.mp4" for work in (one, two)]
        for path in files:
            path.touch()
        disks[0].reserve(files[0], 6_000_000, lambda: False)
        files[0].write_bytes(bytes(1_000_000))  # some of it has come
        os.truncate(files[0], 6_000_000)
        waiting = threading.Thread(
            target=disks[1].reserve, args=(files[1], 6_000_000, lambda: False), daemon=True
        )
        waiting.start()
        waiting.join(0.2)
        assert (waiting.is_alive(), files[1].stat().st_size) == (True, 0)
        files[0].unlink()
        waiting.join(20)
        assert (waiting.is_alive(), files[1].stat().st_size) == (False, 6_000_000)
        assert disks[0].reserve(files[1], 10_000_000, lambda: False, is_bound=True) == 9_000_000
        files[0].touch()
        with pytest.raises(VideoError, match=r"may take 9,000,000 on this disk.*--scratch"):
            disks[0].reserve(files[0], 9_000_001, lambda: False)
        with pytest.raises(RoomClosedError):
            disks[0].reserve(files[0], 6_000_000, lambda: True)
    assert list(tmp_path.iterdir()) == []


def test_room_that_a_killed_process_reserved_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_disk, "_PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    root = tmp_path / "videos"
    with WorkFolder(root) as work:
        killed = WorkFolder(root).path
        killed.mkdir()
        (killed / "cat.mp4").touch()
        os.truncate(killed / "cat.mp4", 8_000_000)
        path = work.path / "dog.mp4"
        path.touch()
        SharedDisk(root).reserve(path, 6_000_000, lambda: False)
        assert (path.stat().st_size, killed.exists()) == (6_000_000, False)


def test_who_waits_long_for_room_is_told_what_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a machine that is no more left its videos: for a day nobody removes them."""
    monkeypatch.setattr(shared_disk, "_PATIENCE_SECONDS", 0.001)
    monkeypatch.setattr(shared_disk, "_LONG_SECONDS", 0.0)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10_000_000))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("another's")

    monkeypatch.setattr(shared_disk, "remove_dead_work", refuse)
    with WorkFolder(tmp_path / "videos") as folder:
        work = folder.path
        left = work.with_name("0123456789ab-elsewhere")
        left.mkdir()
        (left / "cat.mp4").touch()
        os.truncate(left / "cat.mp4", 8_000_000)
        (work / "dog.mp4").touch()
        asked = iter([False] * 5)
        with (
            pytest.warns(VideoWarning, match="where others take 8,000,000 of 9,000,000") as told,
            pytest.raises(RoomClosedError),
        ):
            SharedDisk(tmp_path / "videos").reserve(
                work / "dog.mp4", 6_000_000, lambda: next(asked, True)
            )
        assert len(told) == 1


def test_nothing_is_fetched_or_made_once_it_is_closed(served: Served, tmp_path: Path) -> None:
    scratch = Scratch(bounds(tmp_path))
    scratch.close()
    with pytest.raises(RoomClosedError):
        scratch.fetch(remote(served, "whole"))
    assert list(tmp_path.iterdir()) == []


def test_a_video_of_unknown_size_takes_what_a_disk_that_fills_up_has(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = itertools.count(10_000_000, -4096)  # features are written there meanwhile
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=next(free)))
    with Scratch(bounds(tmp_path)) as scratch:
        with scratch.fetch(remote(served, "unsized")) as video:
            assert video.reason is None
            assert (video.path.read_bytes(), scratch._room._used) == (CONTENT, len(CONTENT))
        assert scratch._room._used == 0


def test_a_video_of_unknown_size_stays_within_its_room(served: Served, tmp_path: Path) -> None:
    with Scratch(bounds(tmp_path, scratch_bytes=5000)) as scratch:
        found = scratch.fetch(remote(served, "endless"))
        assert "more than 5,000 bytes of it come" in (found.reason or "")
        assert (files_in(tmp_path), scratch._room._used) == ([], 0)


@pytest.mark.parametrize("changes", [{"scratch_bytes": 0}, {"max_video_bytes": 0}])
def test_bounds_that_are_none(changes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        FetchConfig(**changes)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="seconds above 0"):
        FetchConfig(max_seconds=float("inf"))
