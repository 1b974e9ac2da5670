"""What a frame gives besides its CLS token: its tokens pooled by the query, their mean, or nothing.

Query-modulated pooling is R²-Tuning's; the others are what its ablations compare with.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Pooling = Literal["query", "mean", "cls"]
WORDS_IN_WINDOW = 2**16  # frames times words that are pooled at once: 64 MB at a width of 256


class TokenPooling(nn.Module):
    """How the tokens of a frame become one vector, computed in three ways that agree."""

    def forward(
        self,
        patches: Float[Tensor, "batch frames tokens width"],
        words: Float[Tensor, "batch words width"],
        competing_words: Bool[Tensor, "batch words"],
    ) -> Float[Tensor, "batch frames width"]:
        """Pool the patches of each query's own video."""
        raise NotImplementedError

    def asks(
        self,
        words: Float[Tensor, "layers batch words width"],
        competing_words: Bool[Tensor, "batch words"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return words, probes and competing words with which `pool_patches` does the same."""
        raise NotImplementedError

    def of_one_video(
        self,
        patches: Float[Tensor, "frames tokens width"],
        words: Float[Tensor, "batch words width"],
        competing_words: Bool[Tensor, "batch words"],
    ) -> Float[Tensor, "batch frames width"]:
        """Pool the patches of one video for several queries."""
        raise NotImplementedError


class SpatialPooling(TokenPooling):
    """Pool a frame's patches by what each word attends to, then take the maximum over words."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.patch_key = nn.Linear(width, width)
        self.word_query = nn.Linear(width, width)
        # It adds the same to all patches of a frame, which the softmax cancels; official weights
        # have it, so it is kept, out of the optimizer's reach.
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

    def probes(
        self, words: Float[Tensor, "*batch words width"]
    ) -> Float[Tensor, "*batch words width"]:
        """Return vectors whose products with patches give the same attention as the keys do.

        (Wq w + bq) · (Wk p + bk) = (Wkᵀ (Wq w + bq)) · p + …, the same for all patches, which the
        softmax cancels.
        """
        return self.word_query(words) @ self.patch_key.weight / math.sqrt(self.width)

    def asks(
        self,
        words: Float[Tensor, "layers batch words width"],
        competing_words: Bool[Tensor, "batch words"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        return words, self.probes(words), competing_words

    def of_one_video(
        self,
        patches: Float[Tensor, "frames tokens width"],
        words: Float[Tensor, "batch words width"],
        competing_words: Bool[Tensor, "batch words"],
    ) -> Float[Tensor, "batch frames width"]:
        # All their words in one product.
        probes = self.probes(words).flatten(0, 1)
        window = max(1, WORDS_IN_WINDOW // len(probes))
        pooled: list[Tensor] = []
        for seen in patches.split(window):
            attention = (probes @ seen.transpose(1, 2)).softmax(dim=-1)
            found = (attention @ seen).unflatten(1, words.shape[:2]) + words
            found.masked_fill_(~competing_words[None, ..., None], -math.inf)
            pooled.append(found.amax(dim=2).transpose(0, 1))
        return torch.cat(pooled, dim=1)


class MeanPooling(TokenPooling):
    """Pool a frame's tokens to their mean, whatever the words are; the CLS token counts as one."""

    def forward(
        self,
        patches: Float[Tensor, "batch frames tokens width"],
        words: Float[Tensor, "batch words width"],
        competing_words: Bool[Tensor, "batch words"],
    ) -> Float[Tensor, "batch frames width"]:
        return patches.mean(dim=2)

    def asks(
        self,
        words: Float[Tensor, "layers batch words width"],
        competing_words: Bool[Tensor, "batch words"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        # A single word that says nothing attends to all tokens alike.
        silent = torch.zeros_like(words[:, :, :1])
        return silent, silent, torch.ones_like(competing_words[:, :1])

    def of_one_video(
        self,
        patches: Float[Tensor, "frames tokens width"],
        words: Float[Tensor, "batch words width"],
        competing_words: Bool[Tensor, "batch words"],
    ) -> Float[Tensor, "batch frames width"]:
        return patches.mean(dim=1).expand(len(words), -1, -1)


def make_pooling(kind: Pooling, width: int) -> TokenPooling:
    """Return the pooling of a kind; "cls" is the mean of a single token."""
    return SpatialPooling(width) if kind == "query" else MeanPooling()
