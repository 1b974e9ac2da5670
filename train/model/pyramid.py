"""The temporal feature pyramid: frames at halving resolutions, and the points on its levels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class PyramidPoints:
    """Locations on all levels, finest level first; every number is in frames.

    A point sits at the left edge of its cell and answers for moments whose farther end lies
    `min_offset` to `max_offset` away.
    """

    position: Float[Tensor, " points"]
    stride: Float[Tensor, " points"]
    min_offset: Float[Tensor, " points"]
    max_offset: Float[Tensor, " points"]

    @classmethod
    def build(
        cls, strides: tuple[int, ...], num_frames: int, device: torch.device | str
    ) -> PyramidPoints:
        """Return the points over `num_frames` frames; a level longer than the video has none."""
        rows = [
            (
                cell * stride,
                stride,
                0 if stride == strides[0] else stride,
                math.inf if stride == strides[-1] else 2 * stride,
            )
            for stride in strides
            for cell in range(num_frames // stride)
        ]
        table = torch.tensor(rows, dtype=torch.float32)
        return cls(*table.to(device, non_blocking=True).unbind(1))  # as small a copy waits for none


class Pyramid(nn.Module):
    """Downsample frames to each stride by its own chain of halving convolutions.

    Levels share no weights. Stride 1 is the ReLU of the frames themselves.
    """

    def __init__(self, width: int, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.strides = strides
        self.levels = nn.ModuleList(
            nn.Sequential(*[Halving(width) for _ in range(stride.bit_length() - 1)])
            for stride in strides
        )

    def forward(
        self, frames: Float[Tensor, "batch frames width"]
    ) -> list[Float[Tensor, "batch _ width"]]:
        """Return the levels, finest first, without those longer than the video."""
        return [
            level(frames)
            for stride, level in zip(self.strides, self.levels, strict=True)
            if stride <= frames.shape[1]
        ]


class Halving(nn.Module):
    """Merge pairs of cells: a stride-2 convolution, LayerNorm, ReLU; an odd last cell is cut.

    Pairs share no cell, so the convolution is a linear layer on them.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel_size=2, stride=2)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, cells: Float[Tensor, "batch cells width"]
    ) -> Float[Tensor, "batch pairs width"]:
        num_pairs = cells.shape[1] // 2
        pairs = cells[:, : 2 * num_pairs].reshape(len(cells), num_pairs, -1)
        taps = self.conv.weight.transpose(1, 2).flatten(1)  # one cell of a pair after the other
        return F.relu(self.norm(F.linear(pairs, taps, self.conv.bias)))
