"""What may be chosen of decoding, and its limits, without loading a decoder."""

from __future__ import annotations

import importlib.metadata
from typing import Literal, get_args

from r2t.store.errors import ConfigError

DecoderChoice = Literal["auto", "decord", "pyav"]

StreamChoice = Literal["best", "first"]
"""Which picture stream of several: the best, as FFmpeg ranks them, or the first, of which the
official features were made. A cover image is none."""

DEFAULT_MAX_HOURS = 12.0
DEFAULT_MEMORY_BYTES = 4_000_000_000  # of a decoder: 8K video with 16 frames of reference fits


def decord_name() -> str | None:
    """Return decord's name and version, or None where it is not installed."""
    try:
        return f"decord {importlib.metadata.version('decord')}"
    except importlib.metadata.PackageNotFoundError:
        return None


def require_decoder(decoder: str) -> None:
    """Raise `ConfigError` unless `decoder` is a known one that is installed."""
    if decoder not in get_args(DecoderChoice):
        raise ConfigError(f"decoder = {decoder!r}: legal are {', '.join(get_args(DecoderChoice))}")
    if decoder == "decord" and decord_name() is None:
        raise ConfigError("decoder = 'decord': it is not installed here; use 'auto' or 'pyav'")


def require_stream_choice(choice: str) -> None:
    """Raise `ConfigError` unless `choice` is a known one."""
    if choice not in get_args(StreamChoice):
        raise ConfigError(f"stream = {choice!r}: legal are {', '.join(get_args(StreamChoice))}")


def require_hours(max_hours: float) -> None:
    """Raise `ConfigError` for a limit that is none."""
    if not max_hours > 0:
        raise ConfigError(f"{max_hours = }: give hours above 0")
