"""What of this machine may be used, and what of it is free: processor cores and memory.

A container or a job scheduler grants less than the machine has: by the processors a process may run
on, and by the limits of its control group (Linux, cgroups of version 1 and 2, and of every group
above). Elsewhere the machine's own numbers count.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")
_SHORTEST_LOOK_SECONDS = 0.5  # the kernel counts idle time in hundredths of a second
# In both versions: (limit, in use) of memory, and the line of memory.stat with what may be dropped.
_MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def unusable_device(name: str, error: Exception, num_gpus: int) -> str:
    """Say why torch cannot use a device, in its first sentence, and which this machine has."""
    first = str(error).partition("\n")[0].partition(". ")[0]
    why = "torch knows none of this name" if first.startswith("Expected one of") else first
    found = ", ".join(("auto", "cpu", *(f"cuda:{index}" for index in range(num_gpus))))
    return f"device {name!r} cannot be used ({why}); this machine has {found}"


def allowed_cores(root: Path = _ROOT) -> int:
    """Return how many cores this process may keep busy at a time: 1 at least."""
    allowed = _affinity()
    cores = float((os.cpu_count() or 1) if allowed is None else len(allowed))
    for folder in _control_groups(root, "cpu"):
        cores = min(cores, _quota(folder))
    return max(1, math.floor(cores))


def available_bytes(root: Path = _ROOT) -> int | None:
    """Return how much memory can still be had, None where nobody says."""
    known = [_machine_bytes(root)]
    known += [_group_bytes(folder) for folder in _control_groups(root, "memory")]
    return min((each for each in known if each is not None), default=None)


def spare_bytes(root: Path = _ROOT) -> int:
    """Return how much memory to plan with: what can still be had, or half of all if nobody says."""
    found = available_bytes(root)
    if found is None:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return found


@dataclass(frozen=True)
class _Look:
    """Seconds that had passed at one moment; the allowed cores together were idle for so many."""

    clock_seconds: float
    own_seconds: float
    idle_seconds: float


class CoreWatch:
    """How many cores this process could keep busy, from what it and all others have used.

    What it uses itself counts as free. A look spans half a second at least; until one is over,
    and where the system does not tell, all cores that are allowed count as free.
    """

    def __init__(self, root: Path = _ROOT) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._last = self._look()
        self._free = float(allowed_cores(root))

    def free_cores(self) -> float:
        """Return the latest count; it takes a moment's reading at most."""
        with self._lock:
            last = self._last
            if last is None or time.monotonic() - last.clock_seconds < _SHORTEST_LOOK_SECONDS:
                return self._free
            now = self._look()
            if now is not None:
                self._free = min(float(allowed_cores(self._root)), _free_between(last, now))
                self._last = now
            return self._free

    def _look(self) -> _Look | None:
        idle_seconds = _idle_seconds(self._root)
        if idle_seconds is None:
            return None
        return _Look(time.monotonic(), time.process_time(), idle_seconds)


def _free_between(before: _Look, after: _Look) -> float:
    idle = after.idle_seconds - before.idle_seconds
    own = after.own_seconds - before.own_seconds
    return max(0.0, idle + own) / (after.clock_seconds - before.clock_seconds)


def _affinity() -> set[int] | None:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


def _idle_seconds(root: Path) -> float | None:
    """Return how long the cores that this process may use have been idle, all together."""
    allowed = _affinity()
    lines = _read(root / "proc/stat").splitlines()
    found = [line.split() for line in lines if line.startswith("cpu") and line[3:4].isdigit()]
    # name, user, nice, system, idle, iowait, …
    idle = [int(c[4]) + int(c[5]) for c in found if allowed is None or int(c[0][3:]) in allowed]
    return sum(idle) / os.sysconf("SC_CLK_TCK") if idle else None


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's group of a controller and of those above it."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        if number == "0" and not controllers:
            top = root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            top = root / "sys/fs/cgroup" / controller
        else:
            continue
        folder = top / place.strip("/")
        # A container sees its own group as the top, though it may be named by the path outside.
        while folder != top:
            yield folder
            folder = folder.parent
        yield top


def _quota(folder: Path) -> float:
    """Return the cores' worth of time that a group is granted, infinite without a limit."""
    fields = _read(folder / "cpu.max").split()
    if not fields:
        fields = [_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    try:
        quota, period = (float(field) for field in fields)
    except ValueError:  # "max", or no such files
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf


def _machine_bytes(root: Path) -> int | None:
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, size = line.partition(":")
        if name == "MemAvailable" and size.split():
            return 1024 * int(size.split()[0])
    return None


def _group_bytes(folder: Path) -> int | None:
    """Return what a group may still take; files that the system only keeps in memory count as free.

    A group of version 1 without a limit has an enormous one.
    """
    for limit, used, droppable in _MEMORY_FILES:
        try:
            room = int(_read(folder / limit)) - int(_read(folder / used))
        except ValueError:  # "max", or no such files
            continue
        lines = (line.split() for line in _read(folder / "memory.stat").splitlines())
        kept = sum(int(fields[1]) for fields in lines if fields[0] == droppable)
        return max(0, room + kept)
    return None


def _read(path: Path) -> str:
    """Return a file's text, empty where there is none."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
