"""Stores that are not on this machine: behind nginx, behind servers that fail, and in zips."""

from __future__ import annotations

import contextlib
import os
import shutil
import zipfile
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
from remote_store import PART, TOKENS, require_readable, write_both
from servers import NGINX, Nginx, nginx, scripted_server

from r2t.store import FeatureStore
from r2t.store.change.merge import merge_stores
from r2t.store.check.verify import verify_store
from r2t.store.errors import ServerError, StoreError
from r2t.store.format.layout import node_name
from r2t.store.sources import http, retries
from r2t.store.sources.cache import ByteCache
from r2t.store.sources.http_folder import HttpFolder
from r2t.store.sources.remote import open_folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a store, the same store as a zip, and an empty page."""
    return write_both(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def web(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[Nginx]:
    if NGINX is None:
        pytest.skip("nginx is not installed")
    with nginx(home, tmp_path_factory.mktemp("nginx") / "work") as server:
        yield server


@pytest.mark.parametrize("name", ["feats.zarr", "feats.zip"])
def test_a_store_behind_nginx(web: Nginx, name: str) -> None:
    store = FeatureStore.open(f"{web.url}/{name}")
    require_readable(store)
    with pytest.raises(StoreError, match="read-only"):
        store.writer()


@pytest.mark.parametrize("name", ["feats.zarr", "feats.zip"])
def test_partial_reads_move_only_what_is_asked_for(web: Nginx, name: str) -> None:
    store = FeatureStore.open(f"{web.url}/{name}")
    web.sent()
    found = store.locate_video("long", **PART)
    web.sent()
    tokens = np.empty(found.shape, found.dtype)
    found.read_into(tokens)
    requests, num_bytes = web.sent()
    assert num_bytes == tokens.nbytes
    assert requests == 5  # of three shards: whole layers that touch are one request
    whole = store.locate_video("long")
    web.sent()
    whole.read()
    assert web.sent() == (5, TOKENS["long"].nbytes)  # the last shard's padding is passed over


def test_a_cache_moves_tokens_once(web: Nginx, tmp_path: Path) -> None:
    cache = ByteCache(tmp_path / "cache", 10**6)
    store = FeatureStore.open(f"{web.url}/feats.zarr", cache)
    require_readable(store)
    found = FeatureStore.open(f"{web.url}/feats.zarr", cache).locate_video("long")
    web.sent()
    assert np.array_equal(found.read().tokens, TOKENS["long"])
    assert web.sent() == (0, 0)


def test_a_store_behind_nginx_that_lists_nothing(home: Path, tmp_path: Path) -> None:
    if NGINX is None:
        pytest.skip("nginx is not installed")
    with nginx(home, tmp_path / "work", autoindex=False) as server:
        require_readable(FeatureStore.open(f"{server.url}/feats.zarr"))


def test_a_server_that_ignores_ranges_serves_small_files_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted_server(home) as (url, plan):
        require_readable(FeatureStore.open(f"{url}/feats.zarr"))
        monkeypatch.setattr(http, "MAX_WHOLE_BYTES", 10_000)
        assert FeatureStore.open(f"{url}/feats.zarr").videos["video_id"].tolist() == list(TOKENS)
        for name in ("feats.zarr", "feats.zip"):
            with pytest.raises(StoreError, match="does not support range requests"):
                FeatureStore.open(f"{url}/{name}").read_video("long")
        plan.statuses = [403]
        with pytest.raises(StoreError, match=r"access denied.*403"):
            FeatureStore.open(f"{url}/feats.zarr")
        with pytest.raises(StoreError, match="no Zarr v3 group"):
            FeatureStore.open(f"{url}/nothing.zarr")


def test_what_fails_for_a_moment_is_tried_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "_FIRST_PAUSE_SECONDS", 0.001)
    with scripted_server(home) as (url, plan):
        source = open_folder(f"{url}/feats.zarr")
        expected = (home / "feats.zarr" / "zarr.json").read_bytes()
        plan.statuses, plan.cut_short = [503, 500], 2
        assert source.read("zarr.json") == expected
        assert len(plan.requests) == 5
        plan.statuses = [503] * 9
        with pytest.raises(ServerError, match=r"after 5 attempts.*503"):
            source.read("zarr.json")
        plan.statuses = [503] * 9
        with pytest.raises(ServerError, match=r"after 5 attempts.*503"):
            source.size("zarr.json")
        plan.statuses = [503, 405]  # busy, then HEAD is not allowed, then GET is
        assert source.size("zarr.json") == len(expected)
        assert source.size("nothing.json") is None
    with pytest.raises(StoreError, match="after 5 attempts"):
        source.read("zarr.json")


def test_what_a_server_does_is_no_fault_of_the_store(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "_FIRST_PAUSE_SECONDS", 0.001)
    answered = HttpFolder._get
    lost = ""

    def get(self: HttpFolder, key: str, span: tuple[int, int] | None) -> bytes:
        if lost in key and not key.endswith("/"):
            raise ConnectionRefusedError(key)
        return answered(self, key, None)[slice(*span or (None, None))]

    with scripted_server(home) as (url, _):
        monkeypatch.setattr(http, "MAX_WHOLE_BYTES", 10_000)
        with pytest.raises(ServerError, match="does not support range requests"):
            verify_store(f"{url}/feats.zarr")
        monkeypatch.setattr(HttpFolder, "_get", get)
        for lost in ("videos/long/tokens/c/", "/texts/c/"):
            with pytest.raises(ServerError, match=f"{lost}.* after 5 attempts"):
                verify_store(f"{url}/feats.zarr")
        lost = "nothing of the store"
        assert not verify_store(f"{url}/feats.zarr").faults


def test_a_merge_ends_where_a_server_fails_instead_of_leaving_queries_out(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: FeatureStore, query_id: str) -> None:
        raise ServerError(f"cannot read {query_id} after 5 attempts")

    monkeypatch.setattr(FeatureStore, "read_query", fail)
    with pytest.raises(ServerError, match="cannot read q1"):
        merge_stores([str(home / "feats.zarr")], tmp_path / "merged.zarr")


def test_a_zip_that_goes_away_while_it_is_read_is_no_damage(web: Nginx, home: Path) -> None:
    leaving = home / "leaving.zip"
    shutil.copy(home / "feats.zip", leaving)
    store = FeatureStore.open(f"{web.url}/leaving.zip")
    leaving.unlink()
    with pytest.raises(ServerError, match="does not exist, or not any more"):
        store.read_video("long")


def test_zips_that_are_not_what_they_say_are_refused(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "feats.zip"

    def refuse(message: str) -> None:
        with pytest.raises(StoreError, match=message):
            FeatureStore.open(path).read_video("a dog")

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("zarr.json", b"0" * 10**6)
    refuse("compressed")
    path.write_bytes(b"PK not at all")
    refuse("no zip")
    content = (home / "feats.zip").read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refuse("no zip")
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("zarr.json", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            packed.writestr("zarr.json", b"2")
    refuse("twice")
    name = f"videos/{node_name('a dog')}/tokens/c/0/0/0/0".encode()
    at = content.index(name) - 30
    path.write_bytes(content[:at] + b"XX" + content[at + 2 :])
    refuse("not where the zip's list says")


def test_making_room_survives_files_that_vanish_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ByteCache(tmp_path / "cache", 1000)
    for number in range(3):
        cache.put(str(number), bytes(200))
    unfinished = cache.folder / f"{'a' * 64}.{'b' * 12}.150"
    unfinished.touch()
    scandir = os.scandir

    @contextlib.contextmanager
    def listed(folder: Path) -> Iterator[list[os.DirEntry[str]]]:
        with scandir(folder) as entries:
            found = list(entries)
        unfinished.unlink(missing_ok=True)  # between being listed and being looked at
        yield found

    monkeypatch.setattr(os, "scandir", listed)
    cache.put("3", bytes(400))
    kept = [name for name in "0123" if cache.get(name) is not None]
    # What vanished may have become an entry, so it counts: two of the three older ones made room.
    assert len(kept) == 2
    assert "3" in kept


def test_a_cache_is_bounded_whole_and_shared(tmp_path: Path) -> None:
    cache = ByteCache(tmp_path / "cache", 1000)
    for number in range(30):
        cache.put(str(number), bytes([number]) * 96)
        assert sum(file.stat().st_size for file in cache.folder.glob("?" * 64)) <= 1000
    other = ByteCache(cache.folder, 1000)
    assert other.get("29") == bytes([29]) * 96
    assert other.get("0") is None
    cache.put("large", b"x" * 2000)
    assert other.get("large") is None
    for file in cache.folder.glob("?" * 64):  # as a disk might
        file.write_bytes(file.read_bytes()[:-1])
    assert other.get("29") is None
    shutil.rmtree(cache.folder)
    cache.put("1", b"x")  # nowhere to keep it
    assert cache.get("1") is None
    with pytest.raises(StoreError, match="as a cache"):
        ByteCache(Path("/proc/nothing"), 1000)
