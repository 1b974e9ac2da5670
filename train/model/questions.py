"""What words ask of patches, put so that a patch need not be projected for it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from r2t.train.model.pooling import QueryPooling, TokenPooling
from r2t.train.model.tiled import Question


def question_of(
    pooling: TokenPooling,
    words: Float[Tensor, "layers batch words width"],
    competing_words: Bool[Tensor, "batch words"],
) -> Question:
    """Return what to ask so that the answer is what a pooling gives.

    A mean is what a single word finds that says nothing and attends to all tokens alike.
    """
    if isinstance(pooling, QueryPooling):
        return Question(words, probes(pooling, words), competing_words)
    silent = torch.zeros_like(words[:, :, :1])
    return Question(silent, silent, torch.ones_like(competing_words[:, :1]))


def probes(
    pooling: QueryPooling, words: Float[Tensor, "*batch words width"]
) -> Float[Tensor, "*batch words width"]:
    """Return vectors whose products with patches give the same attention as the keys do.

    (Wq q + bq) · (Wk v + bk) = (Wkᵀ (Wq q + bq)) · v + …, where the rest is the same for all
    patches of a frame, so the softmax cancels it.
    """
    return pooling.word_query(words) @ pooling.patch_key.weight / math.sqrt(pooling.width)
