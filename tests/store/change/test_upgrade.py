"""A store of format version 1 becomes one of version 2 whole, wherever the upgrade was killed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damaged_stores import edit, flip
from features import pack, unpack_version_1
from numpy.typing import NDArray

from r2t.store import FeatureStore
from r2t.store.change.remove import remove_videos
from r2t.store.change.repair import repair_store
from r2t.store.change.subset import subset_store
from r2t.store.change.upgrade import upgrade_store
from r2t.store.change.upgrade_plan import plan_upgrade
from r2t.store.change.upgraded_video import Embedder
from r2t.store.check.verify import verify_store
from r2t.store.errors import CorruptFeatureError, StoreError
from r2t.store.features import QueryFeatures, VideoFeatures
from r2t.store.schema import EmbeddingSpec
from r2t.store.work_folders import WorkFolder

SPEC = EmbeddingSpec(width=4)
LONG = "-x y"  # a video of two shards
_watchers: list[Callable[[list[str]], None]] = []


def embed(features: VideoFeatures | QueryFeatures) -> NDArray[np.float16]:
    """Stand in for CLIP's heads, which the store knows nothing of."""
    if isinstance(features, VideoFeatures):
        states, seed = features.decoded()[-1, :, 0], 1
    else:
        states, seed = features.tokens[-1, -1], 2
    projection = np.random.default_rng(seed).standard_normal((states.shape[-1], SPEC.width))
    projected = states.astype(np.float64) @ projection + 1
    return (projected / np.linalg.norm(projected, axis=-1, keepdims=True)).astype(np.float16)


EMBEDDER = Embedder(SPEC, embed)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("version-1")
    unpack_version_1(folder)
    return folder


@pytest.fixture(params=["float16", "int8"])
def path(request: pytest.FixtureRequest, originals: Path, tmp_path: Path) -> Path:
    """A copy of a store of format version 1, to upgrade."""
    return Path(shutil.copytree(originals / f"{request.param}.zarr", tmp_path / "feats.zarr"))


def contents(path: Path) -> tuple[str, dict[str, bytes], dict[str, bytes]]:
    """Return all that an upgrade must keep."""
    store = FeatureStore.open(path)
    videos = {video_id: store.read_video(video_id).tokens.tobytes() for video_id in store}
    ids = [each.query_id for each in store.annotations()]
    queries = {query_id: store.read_query(query_id).tokens.tobytes() for query_id in ids}
    return store.content_digest(), videos, queries


def require_upgraded(path: Path, before: object, embedding: EmbeddingSpec | None = SPEC) -> None:
    """Fail unless a store is a whole one of version 2, and says what it said."""
    assert verify_store(path).faults == ()
    assert contents(path) == before
    store = FeatureStore.open(path)
    assert (store.header.format_version, store.embedding) == (2, embedding)
    for video_id in store:
        video = store.read_video(video_id)
        if embedding is None:
            assert (video.embedding, video.embedding_from) == (None, "")
        else:
            assert video.embedding_from == "tokens"
            np.testing.assert_array_equal(video.embedding, embed(video))
    for each in store.annotations():
        query = store.read_query(each.query_id)
        expected = None if embedding is None else embed(query)
        np.testing.assert_array_equal(query.embedding, expected)
    assert {each.name for each in path.iterdir()} == {"zarr.json", "videos", "parts"}
    assert not path.with_name("feats.zarr.partial").exists()


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Tell the watchers of each event that changes a disk: the places it concerns."""
    if not _watchers:
        return
    if event == "open":
        path, mode, flags = arguments
        changes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        if not (set(mode) & set("wxa+") if mode else flags & changes):
            return
        places = [path]
    elif event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir"):
        places = list(arguments[: 2 if event == "os.rename" else 1])
    else:
        return
    for watcher in _watchers:
        watcher([str(place) for place in places])


@pytest.fixture(scope="module", autouse=True)
def watched() -> None:
    """Watch what is written from here on: Python never lets go of such a hook."""
    sys.addaudithook(_watch)


@contextmanager
def killed(when: Callable[[list[str]], bool]) -> Generator[None]:
    """Let nothing reach the disk any more from the first event on that `when` is true of.

    What a killed process leaves: its files as they were, and its locks given up.
    """
    dead = False

    def watcher(places: list[str]) -> None:
        nonlocal dead
        dead = dead or when(places)
        if dead:
            raise OSError(errno.EIO, "killed here")

    _watchers.append(watcher)
    try:
        with suppress(StoreError, OSError):
            yield
    finally:
        _watchers.remove(watcher)
    assert dead


def test_an_upgraded_store_says_what_it_said_and_has_embeddings(path: Path) -> None:
    before = contents(path)
    heard: list[tuple[float, float]] = []
    report = upgrade_store(path, EMBEDDER, on_video=lambda *done: heard.append(done))
    assert heard == [(1, 3), (2, 3), (3, 3)]
    assert (report.was_current, report.embedding) == (False, SPEC)
    assert (report.num_videos, report.num_queries, report.left_over) == (3, 3, ())
    require_upgraded(path, before)
    node = json.loads((path / "videos" / "dog" / "tokens" / "zarr.json").read_bytes())
    assert node["dimension_names"] == ["layer", "frame", "token", "channel"]
    assert FeatureStore.open(path).provenance["upgraded_from_format"] == 1

    files = {each: each.stat().st_mtime_ns for each in path.rglob("*")}
    again = upgrade_store(path, EMBEDDER)
    assert (again.was_current, again.embedding, again.num_queries) == (True, SPEC, 3)
    assert {each: each.stat().st_mtime_ns for each in path.rglob("*")} == files


def test_without_an_embedder_nothing_is_added_and_what_was_begun_is_taken_back(path: Path) -> None:
    before = contents(path)
    with killed(lambda places: str(path / "parts") in places):
        upgrade_store(path, EMBEDDER, num_threads=1)
    assert len(list(path.glob("videos/*/embedding"))) == 3
    subset_store(path, path.with_name("whole.zarr"))  # takes none of what was begun
    assert verify_store(path.with_name("whole.zarr")).faults == ()
    for each in path.with_name("whole.zarr").glob("videos/*/zarr.json"):
        assert "embedding_digest" not in json.loads(each.read_bytes())["attributes"]
    assert upgrade_store(path, None).embedding is None
    require_upgraded(path, before, None)
    assert not list(path.glob("videos/*/embedding"))


def test_a_plan_tells_the_bytes_and_changes_nothing(path: Path) -> None:
    files = {each: each.stat().st_mtime_ns for each in path.rglob("*")}
    plan = plan_upgrade(path, SPEC)
    assert (plan.format_version, plan.embedding) == (1, SPEC)
    assert (plan.num_videos, plan.num_frames, plan.num_queries) == (3, 158, 3)
    assert {each: each.stat().st_mtime_ns for each in path.rglob("*")} == files
    bare = plan_upgrade(path, None)
    assert (bare.embedding_bytes, bare.part_bytes) == (0, plan.part_bytes - 2 * 4 * 3)

    def taken() -> int:
        return sum(max(each.stat().st_size, 4096) for each in path.rglob("*"))

    size = taken()
    upgrade_store(path, EMBEDDER)
    assert taken() - size < plan.num_bytes < size + plan.embedding_bytes
    after = plan_upgrade(path, None)
    assert (after.format_version, after.embedding, after.num_bytes) == (2, SPEC, 0)


def test_only_what_is_sound_is_sealed(path: Path) -> None:
    """The others keep what they were, for repair; the store is upgraded without them then."""
    flip(next(path.joinpath("videos", "dog", "tokens", "c").rglob("0/0/0/0")), 100)
    with pytest.raises(CorruptFeatureError, match=r"dog: the stored bytes .*`r2t store repair "):
        upgrade_store(path, EMBEDDER)
    assert FeatureStore.open(path).header.format_version == 1
    sealed = {
        each.parent.name: "attributes_digest" in json.loads(each.read_bytes())["attributes"]
        for each in path.glob("videos/*/zarr.json")
    }
    assert sealed == {"dog": False, "-x%20y": True, "%C3%A9%2E": True}
    assert {fault.kind for fault in verify_store(path).faults} == {"video", "left-over"}
    report = repair_store(path)
    assert (report.extract_again, report.set_aside) == (("dog",), ("videos/dog",))
    before = contents(path)
    upgrade_store(path, EMBEDDER)
    require_upgraded(path, before)


@pytest.mark.parametrize("damaged", ["attributes", "part"])
def test_what_the_index_does_not_confirm_is_refused_before_anything_is_done(
    path: Path, damaged: str
) -> None:
    if damaged == "attributes":
        edit(
            path / "videos" / "dog" / "zarr.json",
            lambda node: node["attributes"].update(duration_seconds=99.0),
        )
    else:
        flip(next(path.glob("queries/*/text/c/0")), -1)
    with pytest.raises(CorruptFeatureError, match="was not upgraded, because it is damaged"):
        upgrade_store(path, EMBEDDER)
    assert not list(path.glob("videos/*/embedding"))
    assert not (path / "parts").exists()


def test_a_store_that_is_written_to_or_not_here_is_refused(
    originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(originals / "float16.zarr", tmp_path / "feats.zarr"))
    with WorkFolder(path), pytest.raises(StoreError, match=r"a run is writing into .*feats\.zarr"):
        upgrade_store(path, EMBEDDER)
    with pytest.raises(StoreError, match=r"no folder on this machine.*unpack a zip"):
        upgrade_store(pack(path, tmp_path / "feats.zip"), EMBEDDER)
    full = shutil.disk_usage(path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(StoreError, match=r"writes [0-9,]+ bytes, and 1,000 are free"):
        upgrade_store(path, EMBEDDER)
    monkeypatch.undo()

    def embed_slowly(features: VideoFeatures | QueryFeatures) -> NDArray[np.float16]:
        if isinstance(features, QueryFeatures):  # an older r2t has written another video meanwhile
            shutil.copytree(path / "videos" / "dog", path / "videos" / "cat", dirs_exist_ok=True)
        return embed(features)

    with pytest.raises(StoreError, match="was added to while it was upgraded"):
        upgrade_store(path, Embedder(SPEC, embed_slowly))
    assert FeatureStore.open(path).header.format_version == 1


def kill_everywhere(original: Path, folder: Path, counts: Callable[[list[str]], bool]) -> int:
    """Kill an upgrade at each event that counts, look, and let another one finish."""
    before = contents(original)
    for last in count():
        path = Path(shutil.copytree(original, folder / str(last) / "feats.zarr"))
        seen = count()

        def is_last(places: list[str], last: int = last, seen: Iterator[int] = seen) -> bool:
            return counts(places) and next(seen) == last

        try:
            with killed(is_last):
                upgrade_store(path, EMBEDDER, num_threads=1)
        except AssertionError:
            assert last == next(seen)  # there were no more
            return last
        assert contents(path) == before
        assert {fault.kind for fault in verify_store(path).faults} <= {"left-over"}
        upgrade_store(path, EMBEDDER)
        require_upgraded(path, before)
        shutil.rmtree(path.parent)
    raise AssertionError


@pytest.fixture
def unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is safe from a kill without being flushed, and this is slow."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.usefixtures("unflushed")
def test_killed_at_each_rename_in_the_store_it_is_whole_and_the_next_upgrade_finishes(
    originals: Path, tmp_path: Path
) -> None:
    original = Path(shutil.copytree(originals / "int8.zarr", tmp_path / "feats.zarr"))
    remove_videos(original, [LONG, "é."])

    def in_store(places: list[str]) -> bool:
        return any("/feats.zarr/" in place for place in places)

    # Of embedding and parts an older one first, if there is one; then tokens, scale, offset and
    # attributes; the root; index and queries, which are removed.
    assert kill_everywhere(original, tmp_path, in_store) == 2 * 2 + 4 + 1 + 2


@pytest.mark.stress
@pytest.mark.usefixtures("unflushed")
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_killed_at_every_file_event(originals: Path, tmp_path: Path, dtype: str) -> None:
    original = Path(shutil.copytree(originals / f"{dtype}.zarr", tmp_path / "feats.zarr"))
    assert kill_everywhere(original, tmp_path, lambda places: True) > 300
