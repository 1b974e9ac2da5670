"""Cores and memory as a container grants them, read from folders made to look like Linux's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from r2t.store import machine
from r2t.store.machine import (
    CoreWatch,
    allowed_cores,
    available_bytes,
    spare_bytes,
    unusable_device,
)

GB = 2**30


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "6400000 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense\n"}, 8),
        (  # the group above grants less
            {
                "proc/self/cgroup": "0::/team/job\n",
                "sys/fs/cgroup/team/job/cpu.max": "max 100000\n",
                "sys/fs/cgroup/team/cpu.max": "300000 100000\n",
            },
            3,
        ),
        (  # a container of version 1, whose group is named by the path outside of it
            {
                "proc/self/cgroup": "7:memory:/docker/1f\n4:cpu,cpuacct:/docker/1f\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/1f\n",
                "sys/fs/cgroup/cpu/docker/1f/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/docker/1f/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
    ],
)
def test_a_container_may_use_the_cores_of_its_quota(
    tmp_path: Path, files: dict[str, str], cores: int
) -> None:
    assert allowed_cores(write(tmp_path, files)) == cores


MEMINFO = {"proc/meminfo": f"MemTotal: {32 * 2**20} kB\nMemAvailable: {20 * 2**20} kB\n"}


@pytest.mark.parametrize(
    ("files", "num_bytes"),
    [
        ({}, None),
        (MEMINFO, 20 * GB),
        (
            MEMINFO
            | {
                "proc/self/cgroup": "0::/job\n",
                "sys/fs/cgroup/job/memory.max": f"{4 * GB}\n",
                "sys/fs/cgroup/job/memory.current": f"{3 * GB}\n",
                "sys/fs/cgroup/job/memory.stat": f"anon {GB}\ninactive_file {2 * GB}\n",
            },
            3 * GB,
        ),
        (
            MEMINFO
            | {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "max\n",
                "sys/fs/cgroup/memory.current": f"{3 * GB}\n",
            },
            20 * GB,
        ),
        (
            MEMINFO
            | {
                "proc/self/cgroup": "4:memory:/job\n",
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{8 * GB}\n",
                "sys/fs/cgroup/memory/job/memory.usage_in_bytes": f"{9 * GB}\n",
            },
            0,
        ),
        (
            MEMINFO
            | {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{9 * GB}\n",
            },
            20 * GB,
        ),
    ],
)
def test_memory_is_what_both_machine_and_container_have_left(
    tmp_path: Path, files: dict[str, str], num_bytes: int | None
) -> None:
    assert available_bytes(write(tmp_path, files)) == num_bytes


class Clock:
    """Stands in for the clocks of the machine: seconds since the start, and our own of a core."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.seconds = self.own = 0.0
        self.idle = [0.0] * 10
        monkeypatch.setattr(machine.time, "monotonic", lambda: self.seconds)
        monkeypatch.setattr(machine.time, "process_time", lambda: self.own)
        self.write()

    def write(self) -> None:
        ticks = os.sysconf("SC_CLK_TCK")
        rows = [f"cpu{core} 0 0 0 {int(idle * ticks)} 0 0\n" for core, idle in enumerate(self.idle)]
        write(self.root, {"proc/stat": "cpu  1 2 3 4 5\n" + "".join(rows) + "intr 5\n"})

    def passes(self, *, seconds: float, own: float, idle: dict[int, float]) -> None:
        self.seconds += seconds
        self.own += own
        for core, more in idle.items():
            self.idle[core] += more
        self.write()


def test_memory_to_plan_with_is_half_of_all_where_nobody_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert spare_bytes(write(tmp_path / "linux", MEMINFO)) == 20 * 2**30
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert spare_bytes(tmp_path / "elsewhere") == 1000 * 4096 // 2


def test_free_cores_are_idle_ones_and_our_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    clock = Clock(tmp_path, monkeypatch)
    watch = CoreWatch(tmp_path)
    assert watch.free_cores() == 2  # nothing is known yet
    clock.passes(seconds=1, own=0.25, idle={0: 0.25, 5: 1.0})  # core 5 is not for us
    assert watch.free_cores() == pytest.approx(0.5)
    clock.passes(seconds=0.1, own=0.1, idle={0: 0.1})
    assert watch.free_cores() == pytest.approx(0.5)  # too short a look
    clock.passes(seconds=1.9, own=1.9, idle={0: 1.0, 1: 0.9})
    assert watch.free_cores() == pytest.approx(2)  # not more than there are


def test_all_cores_count_as_free_where_the_system_does_not_tell(tmp_path: Path) -> None:
    assert CoreWatch(tmp_path).free_cores() == 8


def test_an_unusable_device_is_one_short_line() -> None:
    listing = "Expected one of cpu, cuda, ipu, xpu device type at start of device string: gpu"
    said = unusable_device("gpu", RuntimeError(listing), 0)
    assert said == (
        "device 'gpu' cannot be used (torch knows none of this name); this machine has auto, cpu"
    )
    backend = (
        "Could not run 'aten::empty' with arguments from the 'MPS' backend. This could be "
        + ("because the operator does not exist. " * 30)
    )
    said = unusable_device("mps", NotImplementedError(backend), 2)
    assert len(said) < 150
    assert said.endswith("this machine has auto, cpu, cuda:0, cuda:1")
