"""Writers of a bucket that are killed at every request, and what those that come after them see."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from features import columns, random_tokens, small_query, small_spec, write_video
from memory_bucket import URL, Killed, MemoryService, use_memory

from r2t.store import FeatureStore
from r2t.store.change.remove import remove_videos
from r2t.store.change.repair import repair_store
from r2t.store.check.check_video import check_stored_video
from r2t.store.check.verify import verify_store
from r2t.store.errors import FeatureNotFoundError, StoreError
from r2t.store.publish import bucket_node
from r2t.store.sources import StoreRoot, open_root

SOME_OR_ALL = pytest.mark.parametrize("step", [12, pytest.param(1, marks=pytest.mark.stress)])
LENGTHS = {"v0": 2, "v1": 151}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> MemoryService:
    monkeypatch.setattr(bucket_node, "_LOOK_EVERY_SECONDS", 0.0)
    return use_memory(monkeypatch)


def fill(seed: int = 0) -> None:
    """Write everything that the store lacks, as any run does."""
    store = FeatureStore.create(URL, small_spec())
    with store.writer() as writer:
        for video_id, length in LENGTHS.items():
            if store.has_video(video_id):
                writer.index(video_id)
            else:
                write_video(writer, video_id, random_tokens(length, seed=seed))
        writer.add_queries(*columns(small_query("q1", "v1")))


def require_whole(*, complete: bool, seeds: tuple[int, ...] = (0,)) -> None:
    """Fail unless all that a reader sees is whole and, if it should be, there."""
    try:
        store = FeatureStore.open(URL)
    except StoreError:
        assert not complete
        return
    for video_id, length in LENGTHS.items():
        if store.has_video(video_id):
            tokens = store.read_video(video_id).tokens
            assert any(np.array_equal(tokens, random_tokens(length, seed=each)) for each in seeds)
        else:
            assert not complete
            assert not store.is_indexed(video_id)
    assert len(store.query_digests()) in ([1] if complete else [0, 1])
    for annotation in store.annotations():
        store.read_query(annotation.query_id)
    if complete:
        assert sorted(store) == sorted(LENGTHS)
        report = verify_store(URL)
        assert report.faults == ()
        assert (report.num_videos, report.num_queries) == (2, 1)


def num_requests(service: MemoryService, action: Callable[[], object]) -> int:
    service.revive()
    action()
    return service.num_requests


@pytest.mark.parametrize("is_done", [False, True])
@SOME_OR_ALL
def test_a_writer_killed_at_any_request(
    monkeypatch: pytest.MonkeyPatch, service: MemoryService, is_done: bool, step: int
) -> None:
    for at in range(is_done, num_requests(service, fill), step):
        other = use_memory(monkeypatch)
        other.kill(at, is_done=is_done)
        with pytest.raises(Killed):
            fill()
        other.revive()
        require_whole(complete=False)
        fill()
        require_whole(complete=True)


@pytest.mark.parametrize("is_done", [False, True])
@SOME_OR_ALL
def test_what_a_killed_writer_left_gives_way_to_other_features(
    monkeypatch: pytest.MonkeyPatch, service: MemoryService, is_done: bool, step: int
) -> None:
    """Another GPU computes other last bits; and who replaces what was left may be killed, too."""
    monkeypatch.setattr(bucket_node, "LEASE_SECONDS", -1.0)
    left = {"videos/v0/tokens/c/0/0/0/0": b"other"}

    def leave() -> MemoryService:
        other = use_memory(monkeypatch)
        FeatureStore.create(URL, small_spec())
        for key, content in left.items():
            other.connect(URL).create(key, content)
        return other

    total = num_requests(leave(), lambda: fill(seed=2))
    require_whole(complete=True, seeds=(2,))
    for at in range(is_done, total, step):
        other = leave()
        other.kill(at, is_done=is_done)
        with pytest.raises(Killed):
            fill(seed=2)
        other.revive()
        require_whole(complete=False, seeds=(2,))
        fill(seed=2)
        require_whole(complete=True, seeds=(2,))


@pytest.mark.parametrize("is_done", [False, True])
@SOME_OR_ALL
def test_a_removal_killed_at_any_request(
    monkeypatch: pytest.MonkeyPatch, service: MemoryService, is_done: bool, step: int
) -> None:
    monkeypatch.setattr(bucket_node, "LEASE_SECONDS", -1.0)
    fill()

    def remove() -> None:
        remove_videos(URL, ["v1"])

    for at in range(is_done, num_requests(service, remove), step):
        other = use_memory(monkeypatch)
        fill()
        other.kill(at, is_done=is_done)
        with pytest.raises(Killed):
            remove()
        other.revive()
        other.connect(f"{URL}.partial").delete(["change.json"])  # as the message says
        store = FeatureStore.open(URL)
        assert not store.has_video("v1") or check_stored_video(open_root(URL), "v1").row
        with suppress(FeatureNotFoundError):
            remove()
        store = FeatureStore.open(URL)
        assert list(store) == ["v0"]
        assert store.queries.empty
        fill()
        require_whole(complete=True)


class _Turns:
    """Lets one of several threads make one request at a time, in an order drawn by lot."""

    def __init__(self, service: MemoryService, actions: list[Callable[[], object]]) -> None:
        self._waiting: dict[threading.Thread, threading.Event] = {}
        self._state = threading.Condition()
        self.failures: list[BaseException] = []
        self.threads = [threading.Thread(target=self._run, args=(each,)) for each in actions]
        service.before = lambda _: self._wait()

    def _run(self, action: Callable[[], object]) -> None:
        try:
            action()
        except BaseException as error:
            self.failures.append(error)
        finally:
            with self._state:
                self._state.notify_all()

    def _wait(self) -> None:
        thread = threading.current_thread()
        if thread not in self.threads:
            return  # who looks on
        event = threading.Event()
        with self._state:
            self._waiting[thread] = event
            self._state.notify_all()
        event.wait()

    def play(self, generator: random.Random, look: Callable[[], object]) -> None:
        for thread in self.threads:
            thread.start()
        while True:
            with self._state:
                self._state.wait_for(
                    lambda: all(
                        thread in self._waiting or not thread.is_alive() for thread in self.threads
                    ),
                    timeout=0.05,
                )
                ready = [thread for thread in self.threads if thread in self._waiting]
                alive = [thread for thread in self.threads if thread.is_alive()]
                if not alive:
                    return
                if len(ready) < len(alive):
                    continue
                chosen = generator.choice(ready)
                event = self._waiting.pop(chosen)
            look()
            event.set()


@pytest.mark.parametrize("rounds", [10, pytest.param(200, marks=pytest.mark.stress)])
def test_whoever_races_no_video_is_there_in_part(
    monkeypatch: pytest.MonkeyPatch, service: MemoryService, rounds: int
) -> None:
    """Two equal writers, one with other features, and a removal, request by request."""
    tokens = [random_tokens(2, seed=seed) for seed in (0, 0, 1)]
    num_removed = num_refused = 0
    for seed in range(rounds):
        service = use_memory(monkeypatch)
        FeatureStore.create(URL, small_spec())
        root = open_root(URL)

        def write(features: np.ndarray) -> None:
            store = FeatureStore.open(URL)
            with store.writer() as writer:
                write_video(writer, "v", features)

        def remove() -> None:
            nonlocal num_removed
            with suppress(FeatureNotFoundError):
                num_removed += remove_videos(URL, ["v"]).num_videos

        def look(root: StoreRoot = root) -> None:
            checked = check_stored_video(root, "v")
            assert {fault.kind for fault in checked.faults} <= {"uncommitted", "foreign"}

        turns = _Turns(service, [*(lambda each=each: write(each) for each in tokens), remove])
        turns.play(random.Random(seed), look)
        assert all(isinstance(error, StoreError) for error in turns.failures), turns.failures
        num_refused += sum("two different" in str(error) for error in turns.failures)
        look()
        # A row of what was removed meanwhile may come late, as on a disk.
        repair_store(URL)
        assert verify_store(URL).faults == ()
    assert num_removed > 0
    assert num_refused > 0
