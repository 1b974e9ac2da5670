"""Settings of an extraction, and the rule that turns a choice of layers into hidden states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from r2t.extract.fetch import FetchConfig
from r2t.extract.video import (
    DEFAULT_MAX_HOURS,
    DEFAULT_MEMORY_BYTES,
    DecoderChoice,
    StreamChoice,
    require_decoder,
    require_hours,
    require_stream_choice,
)
from r2t.store.errors import ConfigError
from r2t.store.machine import allowed_cores, available_bytes
from r2t.store.schema import PER_VIDEO, StorageDtype

DEFAULT_MODEL = "ViT-B-32-quickgelu"
DEFAULT_NUM_LAYERS = 4  # R²-Tuning §4.2: K = 4
DEFAULT_FRAME_RATE_FPS = 0.5  # one frame for each 2 s clip of QVHighlights
MIN_MEMORY_BYTES = 500_000_000
_DECODING_BYTES = 500_000_000  # what one takes: 0.2 GB measured with 1080p, 0.5 GB with 4K
_SHARE_OF_MEMORY = 0.5  # of what is free, for all of them

LayerChoice = int | str | Sequence[int]


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """How an extraction samples, decodes and stores; `FrozenClip.load` chooses the model.

    Attributes:
        frame_rate: Sampled frames per second, or "per-video": one frame for each clip that the
            video's saliency labels have.
        dtype: How tokens are stored; "int8" halves the bytes.
        decoder: "decord", "pyav", or "auto": decord where its seeking is exact.
        stream_choice: Of several picture streams the "best", as FFmpeg ranks them, or the "first",
            as in the official features. Few files differ, so that each video records it and a
            store's identity does not.
        num_workers: Decoding processes.
        timeout_seconds: A decoder is killed after so long without progress.
        memory_bytes: What a decoder may take (on Linux).
        max_hours: A longer video fails.
        retry_failed: Try videos again that earlier extractions have quarantined.
        update: Extract stored videos again whose files have changed.
        fetching: Bounds of videos that are fetched first.

    Raises:
        ConfigError: if a setting is not legal.
    """

    frame_rate: float | Literal["per-video"] = DEFAULT_FRAME_RATE_FPS
    dtype: StorageDtype = "float16"
    decoder: DecoderChoice = "auto"
    stream_choice: StreamChoice = "best"
    num_workers: int = 1
    timeout_seconds: float = 60.0
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    max_hours: float = DEFAULT_MAX_HOURS
    retry_failed: bool = False
    update: bool = False
    fetching: FetchConfig = field(default_factory=FetchConfig)

    def __post_init__(self) -> None:
        rate = self.frame_rate
        if rate != PER_VIDEO and not (
            isinstance(rate, (int, float)) and math.isfinite(rate) and rate > 0
        ):
            raise ConfigError(f"frame rate {rate!r}: give frames per second or {PER_VIDEO!r}")
        if self.dtype not in ("float16", "int8"):
            raise ConfigError(f"dtype {self.dtype!r}: must be float16 or int8")
        require_decoder(self.decoder)
        require_stream_choice(self.stream_choice)
        if self.num_workers < 1:
            raise ConfigError(f"{self.num_workers} workers: give at least 1")
        if not (math.isfinite(self.timeout_seconds) and self.timeout_seconds > 0):
            raise ConfigError(f"time limit {self.timeout_seconds} s: must be > 0")
        require_hours(self.max_hours)
        if self.memory_bytes < MIN_MEMORY_BYTES:
            raise ConfigError(
                f"memory limit {self.memory_bytes / 1e9:g} GB: a decoder needs at least "
                f"{MIN_MEMORY_BYTES / 1e9:g} GB to start"
            )


def default_num_workers() -> int:
    """Decoding processes that leave a core to the model: as many as cores and memory serve."""
    return max(1, min(allowed_cores() - 1, _num_in_memory()))


def share_of_machine(num_sharers: int) -> int:
    """Return how many decoding processes each of several models on this machine may have."""
    return max(1, min(allowed_cores(), _num_in_memory()) // num_sharers)


def _num_in_memory() -> int:
    free = available_bytes()
    return allowed_cores() if free is None else int(_SHARE_OF_MEMORY * free / _DECODING_BYTES)


def parse_layers(choice: LayerChoice) -> int | tuple[int, ...]:
    """Read a choice of layers: `4` is the last 4; `9,10,12` and `=12` name layers."""
    if isinstance(choice, int):
        return choice
    if not isinstance(choice, str):
        return tuple(choice)
    text = choice.strip()
    try:
        if "," not in text and not text.startswith("="):
            return int(text)
        return tuple(int(number) for number in text.removeprefix("=").split(","))
    except ValueError:
        raise ConfigError(
            f"layers {choice!r}: give a count such as 4 (the last 4), a list such as 9,10,12, "
            "or a single layer such as =12"
        ) from None


def resolve_layers(
    choice: LayerChoice, *, vision_depth: int, text_depth: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the hidden states to keep of the vision and the text tower, ascending.

    Layer n is the output of block n, counted from 1. A count takes the last of each tower;
    explicit numbers mean the same depth in both, so they need towers of equal depth.
    """
    parsed = parse_layers(choice)
    shallow = min(vision_depth, text_depth)
    if isinstance(parsed, int):
        if not 1 <= parsed <= shallow:
            raise ConfigError(f"layers {parsed}: this model offers the last 1 to {shallow}")
        return _last(parsed, vision_depth), _last(parsed, text_depth)
    if vision_depth != text_depth:
        raise ConfigError(
            f"layers {choice!r}: the towers have {vision_depth} and {text_depth} layers, so "
            "one number would mean two different depths; give a count such as 4"
        )
    legal = list(range(1, shallow + 1))
    if not parsed or [layer for layer in legal if layer in parsed] != list(parsed):
        raise ConfigError(
            f"layers {choice!r}: give distinct ascending numbers from 1 to {shallow} "
            "(layer 0, the embedding, has seen no other token and is not offered)"
        )
    return parsed, parsed


def _last(count: int, depth: int) -> tuple[int, ...]:
    return tuple(range(depth - count + 1, depth + 1))
