"""What may be chosen of decoding, and its limits, without loading a decoder."""

from __future__ import annotations

import importlib.metadata
import math
from fractions import Fraction
from typing import Literal, get_args

from r2t.store.errors import ConfigError

DecoderChoice = Literal["auto", "decord", "pyav"]

StreamChoice = Literal["best", "first"]
"""Which picture stream of several: the best, as FFmpeg ranks them, or the first, of which the
official features were made. A cover image is none."""

DEFAULT_MAX_HOURS = 12.0
DEFAULT_MEMORY_BYTES = 4_000_000_000  # of a decoder: 8K video with 16 frames of reference fits

# The largest denominator of a frame rate: lets 0.1 mean 1/10 and 29.97002997 mean 30000/1001.
_RATE_DENOMINATOR = 100_000


def decord_name() -> str | None:
    """Return decord's name and version, or None where it is not installed."""
    try:
        return f"decord {importlib.metadata.version('decord')}"
    except importlib.metadata.PackageNotFoundError:
        return None


def require_decoder(decoder: str) -> None:
    """Raise `ConfigError` unless `decoder` is a known one that is installed."""
    if decoder not in get_args(DecoderChoice):
        raise ConfigError(
            f"decoder = {decoder!r}: must be one of {', '.join(get_args(DecoderChoice))}"
        )
    if decoder == "decord" and decord_name() is None:
        raise ConfigError("decoder = 'decord': it is not installed here; use 'auto' or 'pyav'")


def require_stream_choice(choice: str) -> None:
    """Raise `ConfigError` unless `choice` is a known one."""
    if choice not in get_args(StreamChoice):
        raise ConfigError(
            f"stream = {choice!r}: must be one of {', '.join(get_args(StreamChoice))}"
        )


def require_hours(max_hours: float) -> None:
    """Raise `ConfigError` for a limit that is none."""
    if not max_hours > 0:
        raise ConfigError(f"{max_hours = }: give hours above 0")


def exact_rate(fps: float | Fraction) -> Fraction:
    """Return the simple fraction that a float rate stands for; raise `ConfigError` if not > 0."""
    if not (math.isfinite(fps) and fps > 0):
        raise ConfigError(f"fps = {fps}: give frames per second above 0")
    rate = Fraction(fps).limit_denominator(_RATE_DENOMINATOR)
    return rate or Fraction(fps)
