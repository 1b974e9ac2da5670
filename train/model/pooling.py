"""What a frame gives besides its CLS token: its tokens pooled by the query, their mean, or nothing.

Query-modulated pooling is R²-Tuning's; the others are for its ablations. Each is written here as
its formula reads; a look that computes it in another way takes the weights from here.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Pooling = Literal["query", "mean", "cls"]


class TokenPooling(nn.Module):
    """How the tokens of a frame become one vector; `tokens` are those that are looked at."""

    tokens = slice(None)

    def forward(
        self,
        patches: Float[Tensor, "batch frames tokens width"],
        words: Float[Tensor, "batch words width"],
        competing_words: Bool[Tensor, "batch words"],
    ) -> Float[Tensor, "batch frames width"]:
        """Pool the mapped tokens of each query's video."""
        raise NotImplementedError


class QueryPooling(TokenPooling):
    """Pool a frame's patches by what each word attends to, then take the maximum over words.

    With q a mapped word and v_p the mapped patches of a frame,
        a = softmax over p of (Wq q + bq) · (Wk v_p + bk) / √width
        o = maximum over words of (Σ_p a_p v_p + q)
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.patch_key = nn.Linear(width, width)
        self.word_query = nn.Linear(width, width)
        # It adds the same to the scores of all patches, which the softmax cancels. Official weights
        # have it, so it is kept, but it is not trained.
        self.patch_key.bias.requires_grad_(False)

    def forward(
        self,
        patches: Float[Tensor, "batch frames tokens width"],
        words: Float[Tensor, "batch words width"],
        competing_words: Bool[Tensor, "batch words"],
    ) -> Float[Tensor, "batch frames width"]:
        scores = torch.einsum("bwc,btpc->btwp", self.word_query(words), self.patch_key(patches))
        attention = (scores / math.sqrt(self.width)).softmax(dim=-1)
        found = attention @ patches + words[:, None]
        return found.masked_fill(~competing_words[:, None, :, None], -math.inf).amax(dim=2)


class MeanPooling(TokenPooling):
    """Pool a frame's tokens to their mean, whatever the words; the CLS token is one of them."""

    def forward(
        self,
        patches: Float[Tensor, "batch frames tokens width"],
        words: Float[Tensor, "batch words width"],
        competing_words: Bool[Tensor, "batch words"],
    ) -> Float[Tensor, "batch frames width"]:
        return patches.mean(dim=2)


class ClsAlone(TokenPooling):
    """Use no patches: the CLS token is all that a frame gives."""

    tokens = slice(1)

    def forward(
        self,
        patches: Float[Tensor, "batch frames tokens width"],
        words: Float[Tensor, "batch words width"],
        competing_words: Bool[Tensor, "batch words"],
    ) -> Float[Tensor, "batch frames width"]:
        return patches[:, :, 0]


def make_pooling(kind: Pooling, width: int) -> TokenPooling:
    """Return the pooling of a kind."""
    if kind == "query":
        return QueryPooling(width)
    return MeanPooling() if kind == "mean" else ClsAlone()
