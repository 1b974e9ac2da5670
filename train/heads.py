"""The heads: a convolutional one for class and boundary, and attentive pooling of words."""

from __future__ import annotations

import math

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


class ConvHead(nn.Module):
    """Two 3-tap convolutions over the cells of a level; all levels share them."""

    def __init__(self, width: int, num_outputs: int) -> None:
        super().__init__()
        self.hidden = nn.Conv1d(width, width, kernel_size=3, padding=1)
        self.output = nn.Conv1d(width, num_outputs, kernel_size=3, padding=1)

    def forward(
        self,
        cells: Float[Tensor, "batch cells width"],
        keep: Bool[Tensor, "batch cells"] | None,
    ) -> Float[Tensor, "batch cells outputs"]:
        """Return the outputs of each cell; cells outside `keep` act as the zeros past the end."""
        features = _zero(cells.transpose(1, 2), keep)
        hidden = _zero(F.relu(self.hidden(features)), keep)
        return self.output(hidden).transpose(1, 2)


class WordPooling(nn.Module):
    """Pool words into one vector by a learned softmax weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1, bias=False)

    def forward(
        self, words: Float[Tensor, "*layers batch words width"], mask: Bool[Tensor, "batch words"]
    ) -> Float[Tensor, "*layers batch width"]:
        scores = self.score(words).squeeze(-1).masked_fill(~mask, -math.inf)
        return (scores.softmax(dim=-1).unsqueeze(-2) @ words).squeeze(-2)


def _zero(channels: Tensor, keep: Tensor | None) -> Tensor:
    return channels if keep is None else channels * keep[:, None]
