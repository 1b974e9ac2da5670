"""Writing: a video or a part is there whole, or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from features import columns, leftovers, random_tokens, small_query, small_spec, write_video
from s3_server import s3_server

from r2t.store import FeatureStore
from r2t.store.errors import AnnotationError, ConfigError, StoreError, VideoError
from r2t.store.format import tables
from r2t.store.format.parts import PartHeader
from r2t.store.format.stored_part import read_parts
from r2t.store.writer import StoreWriter

TESTS = Path(__file__).parent.parent


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FeatureStore:
    dtype = getattr(request, "param", "float16")
    return FeatureStore.create(tmp_path / "feats.zarr", small_spec(dtype=dtype))


BOTH_DTYPES = pytest.mark.parametrize("store", ["float16", "int8"], indirect=True)


def files(path: Path) -> dict[str, str]:
    """Return the content of all files below a folder, as digests."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in path.rglob("*")
        if file.is_file()
    }


@BOTH_DTYPES
@pytest.mark.parametrize("num_frames", [1, 150, 151, 301])
def test_windows_of_any_size_give_equal_bytes(store: FeatureStore, num_frames: int) -> None:
    tokens = random_tokens(num_frames, seed=3)
    written: list[dict[str, str]] = []
    for window in (num_frames, 1, 64, 149):
        other = FeatureStore.create(f"{store.location}-{window}", store.spec)
        with other.writer() as writer:
            write_video(writer, "dog", tokens, window)
        written.append(files(Path(other.location, "videos")))
    assert written[0] == written[1] == written[2] == written[3]
    assert len(written[0]) > 3


def test_a_writer_leaves_nothing_unfinished(store: FeatureStore) -> None:
    with store.writer() as writer:
        write_video(writer, "dog", random_tokens(3))
        assert store.has_video("dog")
        assert not store.is_indexed("dog")
    assert store.is_indexed("dog")
    assert not Path(f"{store.location}.partial").exists()


@BOTH_DTYPES
def test_an_exception_leaves_nothing_of_its_video_and_all_of_the_others(
    store: FeatureStore,
) -> None:
    def write_and_fail(writer: StoreWriter) -> None:
        write_video(writer, "dog", random_tokens(3))
        with writer.video("cat", num_frames=2, duration_seconds=4, frame_rate_fps=0.5) as video:
            video.append(random_tokens(2))
            raise VideoError("the decoder broke")

    with pytest.raises(VideoError, match="the decoder broke"), store.writer() as writer:
        write_and_fail(writer)
    assert not store.has_video("cat")
    assert FeatureStore.open(store.location).videos["video_id"].tolist() == ["dog"]
    assert not Path(f"{store.location}.partial").exists()
    with store.writer() as writer:
        write_video(writer, "cat", random_tokens(2))
    assert store.has_video("cat")


NAN = random_tokens(2)
NAN[1, 1, 1, 1] = np.nan


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ([], "0 frames written, 2 announced"),
        ([random_tokens(1)], "1 frames written"),
        ([random_tokens(2), random_tokens(1)], "more frames than the 2"),
        ([random_tokens(2).astype(np.float32)], "expected float16"),
        ([random_tokens(2)[:2]], r"expected float16\[3, 2, 3, 8\]"),
        ([random_tokens(2)[0]], "expected float16"),
        ([NAN], "NaN or infinity"),
    ],
)
def test_windows_that_do_not_fit_are_refused(
    store: FeatureStore, windows: list[Any], message: str
) -> None:
    with store.writer() as writer:
        with (
            pytest.raises(ConfigError, match=message),
            writer.video("cat", num_frames=2, duration_seconds=4, frame_rate_fps=0.5) as video,
        ):
            deque(map(video.append, windows))
        assert not store.has_video("cat")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video_id": ""}, "empty"),
        ({"video_id": "\udc80"}, "no valid Unicode"),
        ({"num_frames": 0}, "num_frames = 0"),
        ({"duration_seconds": 0.0}, "duration_seconds = 0.0"),
        ({"duration_seconds": float("nan")}, "duration_seconds = nan"),
        ({"frame_rate_fps": 1.0}, "sampled at 0.5 fps"),
    ],
)
def test_impossible_videos_are_refused(
    store: FeatureStore, changes: dict[str, Any], message: str
) -> None:
    values = {"video_id": "x", "num_frames": 1, "duration_seconds": 2.0, "frame_rate_fps": 0.5}
    with store.writer() as writer:
        with (
            pytest.raises(ConfigError, match=message),
            writer.video(**{**values, **changes}) as video,
        ):
            video.append(random_tokens(1))
        assert list(Path(store.location, "videos").iterdir()) == [
            Path(store.location, "videos", "zarr.json")
        ]


def test_a_per_video_store_takes_any_frame_rate(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "feats.zarr", small_spec(frame_rate="per-video"))
    with (
        store.writer() as writer,
        writer.video("x", num_frames=1, duration_seconds=1.0, frame_rate_fps=0.9) as video,
    ):
        video.append(random_tokens(1))
    assert store.read_video("x").frame_rate_fps == 0.9


@BOTH_DTYPES
def test_the_same_video_twice(store: FeatureStore) -> None:
    for _ in range(2):
        with store.writer() as writer:
            write_video(writer, "dog", random_tokens(3))
    assert len(FeatureStore.open(store.location).videos) == 1
    with store.writer() as writer, pytest.raises(StoreError, match="two different videos"):
        write_video(writer, "dog", random_tokens(3, seed=1))
    with store.writer() as writer:
        write_video(writer, "dog", random_tokens(3))


def test_a_half_copied_video_is_said_to_be_one(store: FeatureStore) -> None:
    with store.writer() as writer:
        write_video(writer, "dog", random_tokens(3))
    metadata = Path(store.location, "videos", "dog", "zarr.json")
    content = json.loads(metadata.read_bytes())
    del content["attributes"]["digest"]
    metadata.write_text(json.dumps(content))
    assert not store.has_video("dog")
    with store.writer() as writer, pytest.raises(StoreError, match="never committed"):
        write_video(writer, "dog", random_tokens(3))


def test_threads_share_a_writer(store: FeatureStore) -> None:
    failures: list[BaseException] = []
    with store.writer() as writer:

        def write(number: int) -> None:
            try:
                write_video(writer, f"v{number // 2}", random_tokens(20, seed=number // 2))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert sorted(FeatureStore.open(store.location).videos["video_id"]) == ["v0", "v1", "v2", "v3"]


def test_index_heals_what_a_killed_run_left(store: FeatureStore) -> None:
    with store.writer() as writer:
        write_video(writer, "dog", random_tokens(3))
    expected = store.videos
    (part,) = Path(store.location, "parts", "index").glob("*-*")
    part.rename(Path(store.location).with_name("lost"))
    store = FeatureStore.open(store.location)
    assert store.videos.empty
    assert store.has_video("dog")
    with store.writer() as writer:
        writer.index("dog")
    assert store.videos.equals(expected)
    with store.writer() as writer:
        writer.index("dog")
    assert len(list(Path(store.location, "parts", "index").glob("*-*"))) == 1


def test_equal_queries_are_skipped_and_unequal_ones_refused(store: FeatureStore) -> None:
    with store.writer() as writer:
        assert writer.add_queries(*columns(small_query("q1"))) == 1
        assert writer.add_queries(*columns(small_query("q1"), small_query("q2"))) == 1
        assert writer.add_queries(*columns(small_query("q3"), small_query("q3"))) == 1
        assert writer.add_queries([], []) == 0
        before = files(Path(store.location))
        for other in (
            small_query("q2", text="a cat runs"),
            small_query("q2", "cat"),
            small_query("q2", seed=1),
        ):
            with pytest.raises(StoreError, match="'q2' is in"):
                writer.add_queries(*columns(small_query("q4"), other))
        with pytest.raises(StoreError, match="'q5' is in"):
            writer.add_queries(*columns(small_query("q5"), small_query("q5", text="no")))
        assert files(Path(store.location)) == before
    assert store.queries["query_id"].tolist() == ["q1", "q2", "q3"]


def test_queries_that_another_run_added_meanwhile_are_known(store: FeatureStore) -> None:
    with FeatureStore.open(store.location).writer() as writer:
        writer.add_queries(*columns(small_query("q1", text="theirs")))
    with store.writer() as writer, pytest.raises(StoreError, match="'q1' is in"):
        writer.add_queries(*columns(small_query("q1", text="ours")))
    assert FeatureStore.open(store.location).queries["query"].tolist() == ["theirs"]


def test_queries_that_do_not_fit_are_refused(store: FeatureStore) -> None:
    annotation, features = small_query("q1")
    broken = features.tokens.copy()
    broken[0, 0, 0] = np.inf
    with store.writer() as writer:
        for tokens, message in (
            (features.tokens[:2], "3 layers of width 6"),
            (features.tokens[:, :, :5], "3 layers of width 6"),
            (broken, "NaN or infinity"),
        ):
            with pytest.raises(ConfigError, match=message):
                writer.add_queries([annotation], [type(features)("q1", tokens)])
        with pytest.raises(ConfigError, match="'q1' given for query 'q2'"):
            writer.add_queries([small_query("q2")[0]], [features])
        with pytest.raises(AnnotationError, match="no valid Unicode"):
            writer.add_queries(*columns(small_query("q1", text="\ud800")))
    assert store.queries.empty


def test_an_annotation_of_integers_reads_back(store: FeatureStore) -> None:
    annotation, features = small_query("q1")
    whole = type(annotation)("q1", "dog", "text", np.array([[1, 3]]), None)
    with store.writer() as writer:
        writer.add_queries([whole], [features])
    (read,) = FeatureStore.open(store.location).annotations()
    assert read.moments.dtype == np.float64
    assert read.moments.tolist() == [[1.0, 3.0]]
    assert read.saliency is read.duration_seconds is None


def test_parts_are_read_once(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def read_and_note(store: Any, headers: list[PartHeader], kind: Any, *, version: int) -> Any:
        read.extend(header.path for header in headers)
        return read_parts(store, headers, kind, version=version)

    monkeypatch.setattr(tables, "read_parts", read_and_note)
    with store.writer() as writer:
        for number in range(3):
            writer.add_queries(*columns(small_query(f"q{number}")))
    assert len(read) == len(set(read)) == 3


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_on_commit(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.writer() as writer:
        write_video(writer, "dog", random_tokens(3))
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", no_space)
            with pytest.raises(StoreError, match=r"No space left.*committed is safe"):
                write_video(writer, "cat", random_tokens(3))
            with pytest.raises(StoreError, match="No space left"):
                writer.flush()
        write_video(writer, "cat", random_tokens(3))
    assert FeatureStore.open(store.location).videos["video_id"].tolist() == ["dog", "cat"]
    assert leftovers(Path(store.location)) == []


@BOTH_DTYPES
def test_a_disk_that_fills_up_while_writing(store: FeatureStore) -> None:
    """A limit on the size of files makes the kernel refuse the write, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with store.writer() as writer:
        write_video(writer, "dog", random_tokens(3))
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
        try:
            with pytest.raises(StoreError, match=r"cannot write into .*committed is safe"):
                write_video(writer, "cat", random_tokens(200))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not store.has_video("cat")
    assert store.videos["video_id"].tolist() == ["dog"]
    assert leftovers(Path(store.location)) == []


def test_where_nothing_may_be_written(store: FeatureStore, tmp_path: Path) -> None:
    Path(f"{store.location}.partial").write_text("in the way")
    with pytest.raises(StoreError, match="cannot write into"), store.writer():
        pass
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="cannot write into"):
        FeatureStore.create(tmp_path / "file" / "feats.zarr", store.spec)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(store: FeatureStore, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="Permission denied"), store.writer():
            pass
    finally:
        tmp_path.chmod(0o700)


def test_a_store_behind_a_link_is_written_where_it_is(store: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.zarr"
    link.symlink_to(store.location)
    with FeatureStore.open(link).writer() as writer:
        write_video(writer, "dog", random_tokens(3))
        assert Path(f"{store.location}.partial").is_dir()
    assert store.has_video("dog")


def nfs_rename(*, happens: bool) -> Callable[[Any, Any], None]:
    """Return a rename as a network disk may do it: an error, of which only half are true."""
    real = os.rename

    def rename(source: Any, target: Any) -> None:
        if happens:
            real(source, target)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
        if os.path.isdir(target):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        real(source, target)

    return rename


@BOTH_DTYPES
@pytest.mark.parametrize("happens", [True, False])
def test_a_network_disk(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, happens: bool
) -> None:
    path = Path(store.location)
    for kind in (
        "videos",
        "parts/index",
        "parts/queries",
    ):  # what NFS makes of files that were open
        (path / kind / ".nfs000000000a1b2c3d").write_bytes(b"gone")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", nfs_rename(happens=happens))
        for _ in range(2):
            with FeatureStore.open(path).writer() as writer:
                write_video(writer, "dog", random_tokens(3))
                writer.add_queries(*columns(small_query("q1")))
        with (
            FeatureStore.open(path).writer() as writer,
            pytest.raises(StoreError, match="two different videos"),
        ):
            write_video(writer, "dog", random_tokens(3, seed=9))
    again = FeatureStore.open(path)
    assert again.videos["video_id"].tolist() == ["dog"]
    assert again.queries["query_id"].tolist() == ["q1"]
    assert store.spec.dtype == "int8" or np.array_equal(
        again.read_video("dog").tokens, random_tokens(3)
    )


def test_a_read_only_store_is_read(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading asks for nothing that a read-only disk refuses."""
    with store.writer() as writer:
        write_video(writer, "dog", random_tokens(3))
    real = os.open

    def read_only(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, *arguments, **options)

    def refuse(path: Any, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(os, "mkdir", refuse)
    monkeypatch.setattr(os, "rename", refuse)
    opened = FeatureStore.open(store.location)
    assert np.array_equal(opened.read_video("dog").tokens, random_tokens(3))
    with pytest.raises(StoreError, match="Read-only"), opened.writer():
        pass


def run_script(*arguments: object) -> str:
    script = Path(__file__).with_name("crashing_writer.py")
    finished = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert finished.returncode == 0, finished.stderr
    print(finished.stdout)
    return finished.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    """A disk of 2 MB, where this process may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_disk_that_is_really_full(small_disk: Path, dtype: str) -> None:
    run_script("disk", small_disk, dtype)


@pytest.mark.stress
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_many_killed_writers(tmp_path: Path, dtype: str) -> None:
    run_script("crash", tmp_path, dtype, 100)


@pytest.mark.stress
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_many_killed_pairs_of_writers_in_one_store(tmp_path: Path, dtype: str) -> None:
    run_script("pairs", tmp_path, dtype, 15)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_killed_writer_leaves_no_partial_video_and_another_run_completes(
    tmp_path: Path, dtype: str
) -> None:
    run_script("crash", tmp_path, dtype, 12)


def test_killed_writers_of_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        run_script("bucket", server.url, 3)
    assert not list(tmp_path.rglob("*.partial/*"))  # those who came later have cleared up


def test_two_killed_writers_of_one_store(tmp_path: Path) -> None:
    run_script("pairs", tmp_path, "float16", 2)


def test_processes_that_write_equal_videos_both_succeed(tmp_path: Path) -> None:
    run_script("equal", tmp_path, 6)


def test_of_processes_that_write_different_videos_one_is_told(tmp_path: Path) -> None:
    stderr = run_script("different", tmp_path, 6)
    assert stderr.count("one id names two different videos") == 6
