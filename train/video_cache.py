"""Features kept in memory once they have been read, for stores that fit there.

Worth it where reading costs more than a copy in memory: a remote or packed store, or a GPU that
would otherwise wait for its bus. A local store in the operating system's page cache is read at the
speed of memory anyway.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from r2t.store.errors import ConfigError
from r2t.store.machine import available_bytes
from r2t.train.sampling import Row

CacheKind = Literal["ram", "gpu"]
_USABLE = 0.8  # of the free memory; the rest is for the model and the batches


class VideoCache:
    """Videos by row, on the host or on a GPU. Nothing is ever evicted: room is reserved first.

    `sharers` is the number of processes on this machine that fill a cache each: they share its
    memory, but each has a GPU of its own.
    """

    def __init__(self, kind: CacheKind, device: torch.device, sharers: int = 1) -> None:
        if kind == "gpu" and device.type != "cuda":
            raise ConfigError(f"a cache on the GPU needs one, but the device is {device}: use ram")
        self.device = device if kind == "gpu" else torch.device("cpu")
        self.reserved_bytes = 0
        self._free_bytes = int(_USABLE * _free_memory(self.device))
        if kind == "ram":
            self._free_bytes //= sharers
        self._videos: dict[Row, Tensor] = {}
        self._reserved: set[Row] = set()
        self._lock = threading.Lock()
        self._reading: dict[Row, threading.Lock] = {}

    def reserve(self, num_bytes: dict[Row, int]) -> None:
        """Make sure that these rows fit beside those that are reserved already."""
        self.reserved_bytes += sum(num_bytes[row] for row in num_bytes.keys() - self._reserved)
        self._reserved |= num_bytes.keys()
        if self.reserved_bytes > self._free_bytes:
            raise ConfigError(
                f"the features take {self.reserved_bytes / 1e9:.2f} GB and "
                f"{self._free_bytes / 1e9:.2f} GB may be used for them on {self.device.type}: "
                "train without a cache"
            )

    def get(self, row: Row, read: Callable[[], Tensor]) -> Tensor:
        """Return a video's features, read once, whoever else asks for them meanwhile."""
        with self._lock:
            lock = self._reading.setdefault(row, threading.Lock())
        with lock:
            if row not in self._videos:
                self._videos[row] = read().to(self.device)
            return self._videos[row]


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = available_bytes()
    if found is None:  # nobody says, so take half of all there is
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return found
