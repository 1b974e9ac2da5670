"""Features in other shapes: the released `.npy` files of R²-Tuning, in and out, and HDF5.

The released features are one file a video, `{vid}.npy` float16 [frames, layers, tokens, width], and
one file a query, `{qid}.npy` float16 [words, layers, text_width]; highlight datasets name the query
file after the video. Files say nothing about the CLIP that made them, so an imported store records
`UNKNOWN_WEIGHTS` where the digest of the weights would be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from r2t.store.schema import FeatureSpec

UNKNOWN_WEIGHTS = "r2-npy"
OFFICIAL_RESIZE = "ffmpeg-short-side-bicubic-centre-crop"

Progress = Callable[[int], None]
"""Told how many videos are done."""

_QUERIES_PER_PART = 2000


@dataclass(frozen=True)
class TransferReport:
    """What a transfer did: counts, and the reason for each file that could not be used."""

    num_videos: int
    num_skipped: int
    num_queries: int
    failures: Mapping[str, str]


def official_spec(
    *,
    model: str = "ViT-B-32-quickgelu",
    layers: Sequence[int] = (9, 10, 11, 12),
    frame_rate: float | Literal["per-video"] = 0.5,
    num_tokens: int = 50,
    vision_width: int = 768,
    text_width: int = 512,
) -> FeatureSpec:
    """Return the identity of the released features: CLIP ViT-B/32, its last four layers."""
    return FeatureSpec(
        model=model,
        weights_sha256=UNKNOWN_WEIGHTS,
        vision_layers=tuple(layers),
        text_layers=tuple(layers),
        frame_rate=frame_rate,
        num_tokens=num_tokens,
        vision_width=vision_width,
        text_width=text_width,
        image_size=224,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        resize=OFFICIAL_RESIZE,
    )
