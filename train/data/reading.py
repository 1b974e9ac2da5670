"""How features are read: how far ahead, in how much memory, onto which device."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from r2t.store.errors import ConfigError
from r2t.train.data.transfer import CudaTransfer, Transfer
from r2t.train.data.video_cache import VideoCache


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How features are read; none of it changes what is in a batch.

    `prefetch` batches are read ahead; fewer, and with a `ReadingWarning`, if they would take more
    than `buffer_gb` (1e9 bytes) together with the one in use. A reader keeps that memory. On a GPU
    `device` two more are on it; `transfer` is the way there, by default torch's own. Of every
    batch, process `rank` of `num_ranks` reads its own part.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    prefetch: int = 2
    buffer_gb: float = 8.0
    cache: VideoCache | None = None
    rank: int = 0
    num_ranks: int = 1
    transfer: Transfer | None = None

    def __post_init__(self) -> None:
        if self.prefetch < 1:
            raise ConfigError(f"prefetch = {self.prefetch}: must be positive")
        if not self.buffer_gb > 0:
            raise ConfigError(f"buffer_gb = {self.buffer_gb}: must be positive")

    def way(self) -> Transfer | None:
        """Return the way onto the device, None where batches stay on the host."""
        if self.cache is not None and self.cache.transfer is not None:
            return self.cache.transfer
        if self.transfer is None and self.device.type == "cuda":
            return CudaTransfer(self.device)
        return self.transfer
