"""What may be chosen of a training and of how it is scored, without loading torch."""

from __future__ import annotations

from typing import Literal

PresetName = Literal["qvhighlights", "charades", "ego4d", "tacos", "youtube", "tvsum"]

Evaluator = Literal["qvhighlights", "moments", "youtube", "tvsum"]

Recipe = Literal["paper", "official"]
"""Whose training: as the paper describes it, or as the released code does it."""

SampleOrder = Literal["uniform", "joint", "video"]
"""In which order an epoch visits its samples; see `r2t.train.data.sampling`."""

PositiveRule = Literal["above_zero", "above_half", "above_median"]
"""From which saliency on a frame may be the positive one of the contrastive losses."""

Precision = Literal["float32", "tf32", "float16", "bfloat16"]

LookName = Literal["auto", "reference", "tiled", "whole"]
"""How a model looks at patches, which changes no result; see `r2t.train.model.looks`."""

CacheKind = Literal["ram", "gpu"]
"""Where features are kept once they have been read."""

CacheChoice = Literal["auto", "none", CacheKind]
"""Whether they are; "auto" is on the GPU, if there is one with room for them."""

PriorChoice = Literal["auto", "on", "off"]
"""Whether a model is given CLIP's own similarity: "auto" where the store has embeddings."""

WindowChoice = Literal["auto", "off"] | int
"""How long videos are asked: "off" whole, a number in windows of so many frames."""
