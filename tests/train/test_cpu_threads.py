"""Threads follow the size of the work, what is free, and what a user has said."""

from __future__ import annotations

import pytest
import torch

from r2t.train import cpu_threads
from r2t.train.cpu_threads import (
    fitting_lanes,
    fitting_threads,
    lanes_for,
    linear_work,
    threads_for,
)

NARROW = linear_work(32 * 36, 64, 64)  # the demo's
WIDE = linear_work(32 * 75, 256, 256)  # ViT-B/32 on QVHighlights


@pytest.mark.parametrize(
    ("most", "free_cores", "work", "threads"),
    [
        (2, 2.0, NARROW, 1),
        (64, 64.0, NARROW, 1),
        (2, 2.0, WIDE, 2),
        (16, 16.0, WIDE, 16),
        (2, 1.4, WIDE, 1),
        (2, 0.1, WIDE, 1),
        (2, 8.0, WIDE, 2),
        (8, 3.5, WIDE, 4),
    ],
)
def test_products_are_split_where_it_pays(
    most: int, free_cores: float, work: float, threads: int
) -> None:
    assert fitting_threads(most, free_cores, work) == threads


@pytest.mark.parametrize(
    ("most", "free_cores", "num_parts", "lanes"),
    [
        (2, 2.0, 16, (2, 1)),
        (2, 1.0, 16, (1, 1)),
        (2, 0.2, 16, (1, 1)),
        (1, 8.0, 16, (1, 1)),
        (64, 64.0, 16, (16, 4)),
        (64, 9.0, 16, (9, 1)),
        (8, 8.0, 3, (3, 2)),
    ],
)
def test_lanes_share_what_is_free(
    most: int, free_cores: float, num_parts: int, lanes: tuple[int, int]
) -> None:
    assert fitting_lanes(most, free_cores, num_parts) == lanes


@pytest.fixture
def free_to_choose(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Four threads of torch, four cores, and nothing that a user has set."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    threads = [4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda num: threads.__setitem__(0, num))
    monkeypatch.setattr(cpu_threads._watch, "free_cores", lambda: 4.0)
    return monkeypatch


def test_narrow_work_has_one_thread_and_all_lanes(free_to_choose: pytest.MonkeyPatch) -> None:
    with threads_for(NARROW):
        assert (torch.get_num_threads(), lanes_for(16)) == (1, (4, 1))
        with threads_for(WIDE):
            assert (torch.get_num_threads(), lanes_for(2)) == (4, (2, 2))
        assert (torch.get_num_threads(), lanes_for(2)) == (1, (2, 1))
    assert (torch.get_num_threads(), lanes_for(16)) == (4, (4, 1))


def test_a_taken_machine_gets_one_thread_and_one_lane(free_to_choose: pytest.MonkeyPatch) -> None:
    free_to_choose.setattr(cpu_threads._watch, "free_cores", lambda: 0.3)
    with threads_for(WIDE):
        assert (torch.get_num_threads(), lanes_for(16)) == (1, (1, 1))
        # What becomes free is used by lanes, which change no bit; threads stay.
        free_to_choose.setattr(cpu_threads._watch, "free_cores", lambda: 4.0)
        assert (torch.get_num_threads(), lanes_for(16)) == (1, (4, 1))


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_a_number_in_the_environment_is_kept(free_to_choose: pytest.MonkeyPatch, name: str) -> None:
    free_to_choose.setenv(name, "4")
    free_to_choose.setattr(cpu_threads._watch, "free_cores", lambda: 0.3)
    with threads_for(NARROW):
        assert (torch.get_num_threads(), lanes_for(16)) == (4, (4, 1))


def test_a_number_given_to_torch_is_never_exceeded(free_to_choose: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    with threads_for(WIDE):
        assert (torch.get_num_threads(), lanes_for(16)) == (2, (2, 1))
