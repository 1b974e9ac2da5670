"""Which video is fetched next, and which are left because their servers answer nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from r2t.extract.fetch.remote_video import RemoteVideo, VideoLocation, server_name
from r2t.extract.fetch.turns import ALL_SERVERS, MOST_SILENT, MOST_SILENT_IN_ALL, Turns


def jobs(**counts: int) -> list[tuple[str, VideoLocation]]:
    """Return so many jobs for each server, one server after another."""
    return [
        (f"{host}{number}", RemoteVideo(url, url))
        for host, count in counts.items()
        for number in range(count)
        for url in [f"https://{host}.example/{number}.mp4"]
    ]


def worked(
    turns: Turns[str], is_silent: Callable[[str], bool], num_at_once: int = 1
) -> tuple[list[str], list[str]]:
    """Take all that may be had, several at a time; return whose servers answered, and whose not."""
    answered: list[str] = []
    silent: list[str] = []
    while True:
        taken = [item for _ in range(num_at_once) if (item := turns.take())]
        if not taken:
            return answered, silent
        for job, place in taken:
            turns.settle(job, place, "away" if is_silent(job) else None)
            (silent if is_silent(job) else answered).append(job)


def test_a_dead_server_costs_a_few_tries_and_the_others_nothing() -> None:
    turns = Turns(jobs(dead=1000, good=50, other=3))
    answered, silent = worked(turns, lambda job: job.startswith("dead"))
    assert len(answered) == 53
    assert len(silent) == MOST_SILENT
    [left] = turns.left()
    assert (left.server, left.reason) == ("https://dead.example", "away")
    assert sorted(left.jobs) == sorted(job for job, _ in jobs(dead=1000))


def test_dead_links_at_the_head_of_a_list_do_not_block_its_server() -> None:
    dead = {f"a{number}" for number in range(200)}
    turns = Turns(jobs(a=1000))
    answered, silent = worked(turns, dead.__contains__)
    # Ten of the fifth in a row come once in ten million draws.
    assert (len(answered), set(silent), turns.left()) == (800, dead, [])


@pytest.mark.parametrize("num_at_once", [1, 64])
def test_a_network_that_is_down_ends_it_soon(num_at_once: int) -> None:
    given = jobs(**{f"s{number}x": 2 for number in range(500)})
    turns = Turns(given)
    answered, silent = worked(turns, lambda job: True, num_at_once)
    assert answered == []
    assert MOST_SILENT_IN_ALL <= len(silent) <= max(MOST_SILENT_IN_ALL, num_at_once)
    [left] = turns.left()
    assert left.server == ALL_SERVERS
    assert sorted(left.jobs) == sorted(job for job, _ in given)


def test_many_dead_servers_do_not_pass_for_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.shuffle", lambda order: None)  # the good one has the first turn
    given = jobs(good=100, **{f"dead{number}x": 12 for number in range(90)})
    turns = Turns(given)
    answered, silent = worked(turns, lambda job: job.startswith("dead"), 4)
    assert len(answered) == 100
    assert sorted(job for left in turns.left() for job in left.jobs) == sorted(
        job for job, _ in given if job.startswith("dead")
    )
    assert len(silent) <= 90 * MOST_SILENT


def test_a_network_that_goes_down_leaves_also_what_a_dead_server_had() -> None:
    given = jobs(dead=12, **{f"s{number}x": 40 for number in range(50)})
    turns = Turns(given)
    dead: set[str] = set()

    def is_silent(job: str) -> bool:
        dead.update([job] if job.startswith("dead") else [])
        return job in dead or len(dead) == MOST_SILENT

    answered, silent = worked(turns, is_silent)
    [left] = turns.left()
    assert sorted([*answered, *left.jobs]) == sorted(job for job, _ in given)
    assert len(silent) <= MOST_SILENT + MOST_SILENT_IN_ALL


def test_who_answers_at_last_brings_its_server_back() -> None:
    turns = Turns(jobs(a=100))
    slow = turns.take()
    assert slow is not None
    for _ in range(MOST_SILENT):
        item = turns.take()
        assert item is not None
        turns.settle(*item, "away")
    assert turns.take() is None  # not before the slow one is settled
    assert turns.num_under_way == 1
    turns.settle(*slow)
    assert turns.left() == []
    answered, silent = worked(turns, lambda job: False)
    assert (len(answered), silent) == (100 - MOST_SILENT - 1, [])


def test_few_silent_videos_have_failed_and_local_ones_come_first_in_order() -> None:
    here: list[tuple[str, VideoLocation]] = [(f"here{n}", Path(f"{n}.mp4")) for n in range(9)]
    turns = Turns([*jobs(dead=MOST_SILENT - 1, good=1), *here])
    answered, silent = worked(turns, lambda job: job.startswith("dead"))
    assert answered == [*(job for job, _ in here), "good0"]
    assert (len(silent), turns.left()) == (MOST_SILENT - 1, [])


def test_the_few_of_a_run_that_no_server_answers_have_not_failed() -> None:
    turns = Turns([*jobs(a=1, b=2), ("here", Path("here.mp4"))])
    assert worked(turns, lambda job: job != "here")[0] == ["here"]
    assert {left.server: sorted(left.jobs) for left in turns.left()} == {
        "https://a.example": ["a0"],
        "https://b.example": ["b0", "b1"],
    }


def test_a_server_is_named_without_secrets() -> None:
    assert server_name("https://me:word@a.example:8443/x/y.mp4?k=1") == "https://a.example:8443"
    assert server_name("s3://bucket/deep/a.mp4") == "s3://bucket"
