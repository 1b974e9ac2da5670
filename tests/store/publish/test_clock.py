"""Machines that sleep while they write to a bucket: others go on, and nothing of theirs is lost."""

from __future__ import annotations

import time
from contextlib import suppress

import numpy as np
import pytest
from features import columns, random_tokens, small_query, small_spec, write_video
from memory_bucket import URL, MemoryService, use_memory

from r2t.store import FeatureStore
from r2t.store.check.verify import verify_store
from r2t.store.errors import StoreError
from r2t.store.publish import bucket, bucket_node, clock, lease, publisher_at
from r2t.store.publish.bucket import BucketPublisher
from r2t.store.publish.clock import Moment
from r2t.store.publish.marks import Doing

OWN, OTHER = (random_tokens(151, seed=seed) for seed in (0, 1))
DAYS = 3 * 24 * 3600.0


class Sleep:
    """A machine's clocks: one stands still while it sleeps, and one does not."""

    seconds = 0.0

    def clocks(self) -> tuple[float, ...]:
        return (0.0, self.seconds)


@pytest.fixture
def sleep(monkeypatch: pytest.MonkeyPatch) -> Sleep:
    sleep = Sleep()
    monkeypatch.setattr(clock, "_clocks", sleep.clocks)
    monkeypatch.setattr(bucket_node, "_LOOK_EVERY_SECONDS", 0.0)
    return sleep


@pytest.mark.skipif(clock._BOOTTIME is None, reason="this system has no such clock")
def test_time_that_was_slept_through_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    then, read = Moment.now(), time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda which: read(which) + 3600)
    assert 3600 <= then.seconds_ago() < 3700


def test_a_clock_that_is_set_back_is_not_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    then = Moment.now()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 0 <= then.seconds_ago() < 100


def write(tokens: np.ndarray) -> None:
    with FeatureStore.open(URL).writer() as writer:
        write_video(writer, "long", tokens)


def leave(service: MemoryService, key: str) -> None:
    FeatureStore.create(URL, small_spec())
    service.connect(URL).create(key, b"of a writer that was killed")


def require_whole() -> None:
    tokens = FeatureStore.open(URL).read_video("long").tokens
    assert np.array_equal(tokens, OWN) or np.array_equal(tokens, OTHER)
    assert verify_store(URL).faults == ()


def test_who_sleeps_while_it_replaces_what_was_left(
    monkeypatch: pytest.MonkeyPatch, sleep: Sleep
) -> None:
    """Before each request of a commit, for an hour in which another writer takes its place."""
    monkeypatch.setattr(bucket_node, "LEASE_SECONDS", -1.0)  # for others: an hour is over
    num_refused = 0
    at = 0
    while True:
        at += 1
        service = use_memory(monkeypatch)
        leave(service, "videos/long/tokens/c/0/1/0/0")
        was_committed: list[bool] = []

        def fall_asleep(
            number: int,
            at: int = at,
            service: MemoryService = service,
            ends: list[bool] = was_committed,
        ) -> None:
            if number == at:
                service.revive()
                sleep.seconds += 3600
                ends.append(FeatureStore.open(URL).has_video("long"))
                with suppress(StoreError):
                    write(OTHER)

        service.num_requests = 0
        service.before = fall_asleep
        try:
            write(OWN)
        except StoreError as error:
            num_refused += "two different" in str(error)
        require_whole()
        if was_committed == [True]:
            break
    assert at > 10
    assert num_refused > at / 2


def test_a_mark_counts_from_when_it_was_sent(monkeypatch: pytest.MonkeyPatch, sleep: Sleep) -> None:
    """The service dates it long before an answer that takes an hour."""
    service = use_memory(monkeypatch)
    leave(service, "videos/long/tokens/c/0/1/0/0")
    marks: list[bytes] = []
    new_mark = bucket_node.new_mark

    def put_mark(doing: Doing) -> bytes:
        marks.append(new_mark(doing))
        return marks[-1]

    monkeypatch.setattr(bucket_node, "new_mark", put_mark)
    service.after = lambda _: setattr(sleep, "seconds", 3600.0 * len(marks[:1]))
    write(OWN)
    assert len(marks) == 2
    require_whole()


def test_who_sleeps_for_days_while_what_it_left_is_cleared(
    monkeypatch: pytest.MonkeyPatch, sleep: Sleep
) -> None:
    monkeypatch.setattr(bucket, "SILENT_SECONDS", -1.0)
    monkeypatch.setattr(bucket_node, "LEASE_SECONDS", -1.0)
    for at in range(2, 6):
        service = use_memory(monkeypatch)
        FeatureStore.create(URL, small_spec())

        def fall_asleep(number: int, at: int = at, service: MemoryService = service) -> None:
            if number == at:
                service.revive()
                sleep.seconds += DAYS
                publisher_at(URL).clear()  # by a mark
                publisher_at(URL).clear()  # which a day later is forgotten

        service.num_requests = 0
        service.before = fall_asleep
        write(OWN)
        require_whole()


def test_a_part_that_took_days_is_given_up(monkeypatch: pytest.MonkeyPatch, sleep: Sleep) -> None:
    """Its objects may be on their way out, by no mark, since nobody else has its name."""
    service = use_memory(monkeypatch)
    store = FeatureStore.create(URL, small_spec())
    monkeypatch.setattr(
        service, "after", lambda _: setattr(sleep, "seconds", sleep.seconds + DAYS / 4)
    )
    with (
        pytest.raises(StoreError, match=r"parts/queries/.* took longer than 12 hours.* slept"),
        store.writer() as writer,
    ):
        writer.add_queries(*columns(small_query("q1", "long")))
    assert FeatureStore.open(URL).queries.empty


def test_a_command_that_slept_for_a_day_finds_its_place_taken(
    monkeypatch: pytest.MonkeyPatch, sleep: Sleep
) -> None:
    use_memory(monkeypatch)
    FeatureStore.create(URL, small_spec())
    publisher = publisher_at(URL)
    with publisher.maintenance():
        sleep.seconds += DAYS
        monkeypatch.setattr(lease, "SILENT_SECONDS", -1.0)
        other = publisher_at(URL).maintenance()
        other.__enter__()
        for change in (
            lambda: publisher.drop("videos/long"),
            lambda: publisher.set_aside("videos/long", "now"),
            lambda: publisher.write("README.md", b""),
        ):
            with pytest.raises(StoreError, match="another command is repairing"):
                change()
    other.__exit__(None, None, None)
    assert connect_beside().objects_below("") == {}


def connect_beside() -> bucket.Bucket:
    return bucket.connect(f"{URL}.partial")


@pytest.mark.parametrize("place", ["videos/late", "parts/index/20200101T000000000000-01234567"])
def test_what_is_committed_after_a_day_is_not_cleared(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A rerun finds all that a killed writer left to be its own, and has to put one object."""
    monkeypatch.setattr(bucket, "SILENT_SECONDS", -1.0)
    service = use_memory(monkeypatch)
    leave(service, f"{place}/texts/c/0")
    left = BucketPublisher._left
    document = b'{"attributes": {"digest": "sha256:' + b"0" * 200 + b'"}}'

    def commit(publisher: BucketPublisher) -> list[bucket._Left]:
        found = left(publisher)
        service.connect(URL).create(f"{place}/zarr.json", document)
        return found

    monkeypatch.setattr(BucketPublisher, "_left", commit)
    assert publisher_at(URL).clear() == []
    assert service.connect(URL).objects_below(place).keys() == {
        f"{place}/texts/c/0",
        f"{place}/zarr.json",
    }
