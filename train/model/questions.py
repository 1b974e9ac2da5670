"""What words ask of patches, rewritten so that the patches need no key projection."""

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
    """Return the question whose answer is the result of a pooling.

    The mean is what a single zero word finds: it attends to all tokens equally and adds nothing.
    """
    if isinstance(pooling, QueryPooling):
        return Question(words, probes(pooling, words), competing_words)
    zero = torch.zeros_like(words[:, :, :1])
    return Question(zero, zero, torch.ones_like(competing_words[:, :1]))


def probes(
    pooling: QueryPooling, words: Float[Tensor, "*batch words width"]
) -> Float[Tensor, "*batch words width"]:
    """Return vectors whose products with patches give the same attention as the keys do.

    (Wq q + bq) · (Wk v + bk) = (Wkᵀ (Wq q + bq)) · v + (Wq q + bq) · bk, and the last term is the
    same for all patches, so the softmax cancels it.
    """
    return pooling.word_query(words) @ pooling.patch_key.weight / math.sqrt(pooling.width)
