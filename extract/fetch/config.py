"""Where fetched videos are kept, and the limits that they keep to."""

from __future__ import annotations

import math
from dataclasses import dataclass

from r2t.store.errors import ConfigError

DEFAULT_SCRATCH_BYTES = 50_000_000_000
DEFAULT_MAX_VIDEO_BYTES = 20_000_000_000


@dataclass(frozen=True, kw_only=True)
class FetchConfig:
    """Where fetched videos lie, and what they may take.

    Attributes:
        scratch: Folder for them, which may be one that several processes use; by default the
            system's for temporary files.
        scratch_bytes: What this process may have there at a time; those of all processes leave a
            tenth of the disk's space free.
        max_video_bytes: A larger video fails.
        max_seconds: A video that takes longer to fetch fails.

    Raises:
        ConfigError: if a bound is not above 0.
    """

    scratch: str | None = None
    scratch_bytes: int = DEFAULT_SCRATCH_BYTES
    max_video_bytes: int = DEFAULT_MAX_VIDEO_BYTES
    max_seconds: float = 3600.0

    def __post_init__(self) -> None:
        if min(self.scratch_bytes, self.max_video_bytes) < 1:
            raise ConfigError(
                f"{self.scratch_bytes = }, {self.max_video_bytes = }: each must be at least 1"
            )
        if not (math.isfinite(self.max_seconds) and self.max_seconds > 0):
            raise ConfigError(f"{self.max_seconds = }: give seconds above 0")
