"""The header names the parts: two writers at once, disks without locks, writers that are killed."""

from __future__ import annotations

import errno
import fcntl
import threading
from pathlib import Path

import pytest
from features import columns, committed_parts, random_tokens, small_query, small_spec, write_video

from r2t.store import FeatureStore
from r2t.store.check.verify import verify_store
from r2t.store.errors import StoreError
from r2t.store.format import manifest, part_writer
from r2t.store.publish import local
from r2t.store.sources import open_root


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with FeatureStore.create(tmp_path / "feats.zarr", small_spec()).writer() as writer:
        write_video(writer, "dog", random_tokens(3))
    return tmp_path / "feats.zarr"


def named(path: Path) -> list[str]:
    return list(open_root(path).header.parts["queries"])


def add(path: Path, name: str) -> None:
    with FeatureStore.open(path).writer() as writer:
        writer.add_queries(*columns(small_query(name)))


def no_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, "no locks here")


@pytest.mark.parametrize("has_locks", [True, False])
def test_two_writers_at_once(path: Path, monkeypatch: pytest.MonkeyPatch, has_locks: bool) -> None:
    def work(number: int) -> None:
        with FeatureStore.open(path).writer() as writer:
            for step in range(4):
                writer.add_queries(*columns(small_query(f"{number}-{step}")))

    if not has_locks:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    threads = [threading.Thread(target=work, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(named(path)) == 8
    assert named(path) == committed_parts(path, "queries")
    assert verify_store(path).faults == ()


def test_who_writes_last_sees_what_came_between(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without locks: another's part is committed and recorded after ours were listed."""
    write = local.write_whole
    late = ["later"]

    def write_late(file: Path, content: bytes, *, beside: Path) -> None:
        if late:
            add(path, late.pop())
        write(file, content, beside=beside)

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(local, "write_whole", write_late)
    add(path, "first")
    assert len(named(path)) == 2
    assert named(path) == committed_parts(path, "queries")


def test_the_next_run_mends_what_a_killed_one_left(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(part_writer, "record_parts", die)
        with pytest.raises(KeyboardInterrupt):
            add(path, "q1")
    assert named(path) == []
    assert len(FeatureStore.open(path).queries) == 1
    (fault,) = verify_store(path).faults
    assert (fault.kind, fault.place) == ("manifest", "zarr.json")
    add(path, "q1")  # which is there
    assert named(path) == committed_parts(path, "queries") != []
    assert verify_store(path).faults == ()


def test_more_parts_than_can_be_named_are_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(path, "q1")
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "MOST_LISTED", 1)
        with pytest.raises(StoreError, match=r"2 queries parts.*repair --compact`.* is safe"):
            add(path, "q2")
    assert len(FeatureStore.open(path).queries) == 2
