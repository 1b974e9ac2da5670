"""Frozen features brought to the block's width, and the time that is appended to them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from r2t.train.model.tiled import MapWeights


class FeatureMap(nn.Module):
    """Map frozen features to the block's width: twice LayerNorm, dropout, linear; ReLU between."""

    def __init__(self, in_width: int, width: int, dropout: float) -> None:
        super().__init__()
        self.input_norm = nn.LayerNorm(in_width)
        self.input_linear = nn.Linear(in_width, width)
        self.output_norm = nn.LayerNorm(width)
        self.output_linear = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Float[Tensor, "*rows in_width"]) -> Float[Tensor, "*rows width"]:
        hidden = F.relu(self.input_linear(self.dropout(self.input_norm(features))))
        return self.output_linear(self.dropout(self.output_norm(hidden)))

    def weights(self) -> MapWeights:
        """Return the parameters under the names that fast arithmetic uses."""
        return MapWeights(
            input_gain=self.input_norm.weight,
            input_shift=self.input_norm.bias,
            input_weight=self.input_linear.weight,
            input_bias=self.input_linear.bias,
            output_gain=self.output_norm.weight,
            output_shift=self.output_norm.bias,
            output_weight=self.output_linear.weight,
            output_bias=self.output_linear.bias,
        )


def time_features(
    lengths: Int64[Tensor, " batch"], num_frames: int
) -> Float[Tensor, "batch frames 2"]:
    """Return each frame's start and end as a fraction of the video."""
    ends = torch.arange(num_frames + 1, device=lengths.device) / lengths[:, None]
    return torch.stack([ends[:, :-1], ends[:, 1:]], dim=-1)
