"""The heads: a convolutional one for class and boundary, and attentive pooling of words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn


class ConvHead(nn.Module):
    """Two 3-tap convolutions over the cells of a level; all levels share them."""

    def __init__(self, width: int, num_outputs: int) -> None:
        super().__init__()
        self.hidden = nn.Conv1d(width, width, kernel_size=3, padding=1)
        self.output = nn.Conv1d(width, num_outputs, kernel_size=3, padding=1)

    def forward(
        self, cells: Float[Tensor, "batch cells width"], keep: Bool[Tensor, "batch cells"]
    ) -> Float[Tensor, "batch cells outputs"]:
        """Return the outputs of each cell; cells outside `keep` act as the zeros past the end."""
        kept = keep[:, None]
        hidden = F.relu(self.hidden(cells.transpose(1, 2) * kept)) * kept
        return self.output(hidden).transpose(1, 2)


def join_levels(levels: Sequence[Shaped[Tensor, "batch ..."]]) -> Shaped[Tensor, "batch cells ..."]:
    """Lay the cells of all levels in a row, with a zero after each, for one call of a head."""
    zero = levels[0].new_zeros(len(levels[0]), 1, *levels[0].shape[2:])
    return torch.cat([part for level in levels for part in (level, zero)], dim=1)


def split_levels(
    joined: Shaped[Tensor, "batch cells ..."], num_cells: Sequence[int]
) -> list[Shaped[Tensor, "batch ..."]]:
    """Return the levels of what `join_levels` laid in a row."""
    sizes = [size for level in num_cells for size in (level, 1)]
    return list(joined.split(sizes, dim=1)[::2])


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
