"""Temporal refinement: a post-norm decoder layer over frames, and the code of their positions."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

# What a GPU may attend with. With a mask torch would prefer cuDNN on Hopper, whose gradients are
# reported to differ from call to call and to be NaN at some lengths; those of the memory-efficient
# kernel add up in any order where there are many keys. Without gradients that one is repeatable.
_WITH_GRADIENTS = [SDPBackend.MATH]
_WITHOUT = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
_FEWEST_WORDS = 16  # attention over fewer takes a CPU twice as long


class TemporalRefinement(nn.Module):
    """A post-norm decoder layer: frames attend to words, then to frames, then a feed-forward."""

    def __init__(self, width: int, num_heads: int, drop_path: float) -> None:
        super().__init__()
        self.cross_attention = Attention(width, num_heads)
        self.cross_norm = nn.LayerNorm(width)
        self.self_attention = Attention(width, num_heads)
        self.self_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.drop_path = DropPath(drop_path)
        for linear in (self.expand, self.contract):
            nn.init.kaiming_normal_(linear.weight, mode="fan_out")
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        frames: Float[Tensor, "batch frames width"],
        words: Float[Tensor, "batch words width"],
        positions: Float[Tensor, "batch frames width"],
        frame_mask: Bool[Tensor, "batch frames"],
        word_mask: Bool[Tensor, "batch words"],
    ) -> Float[Tensor, "batch frames width"]:
        missing = max(0, _FEWEST_WORDS - words.shape[1])
        words, word_mask = F.pad(words, (0, 0, 0, missing)), F.pad(word_mask, (0, missing))
        found = self.cross_attention(frames + positions, words, words, word_mask)
        frames = self.cross_norm(frames + self.drop_path(found))
        placed = frames + positions
        found = self.self_attention(placed, placed, frames, frame_mask)
        frames = self.self_norm(frames + self.drop_path(found))
        found = self.contract(F.relu(self.expand(frames)))
        return self.feed_forward_norm(frames + self.drop_path(found))


class Attention(nn.Module):
    """Multi-head attention with separate projections, heads in contiguous channels."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        for linear in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        queries: Float[Tensor, "batch queries width"],
        keys: Float[Tensor, "batch keys width"],
        values: Float[Tensor, "batch keys width"],
        key_mask: Bool[Tensor, "batch keys"],
    ) -> Float[Tensor, "batch queries width"]:
        with _backends(queries):
            found = F.scaled_dot_product_attention(
                self._split(self.query(queries)),
                self._split(self.key(keys)),
                self._split(self.value(values)),
                attn_mask=key_mask[:, None, None],
            )
        return self.output(found.transpose(1, 2).flatten(2))

    def _split(self, features: Tensor) -> Tensor:
        return features.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def _backends(features: Tensor) -> AbstractContextManager[object]:
    """Return the context in which attention is computed the same way every time."""
    if not features.is_cuda:
        return nullcontext()
    return sdpa_kernel(_WITH_GRADIENTS if torch.is_grad_enabled() else _WITHOUT)


class DropPath(nn.Module):
    """Drop a residual branch for whole samples, scaling the kept ones to the same expectation."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(
        self, branch: Float[Tensor, "batch frames width"]
    ) -> Float[Tensor, "batch frames width"]:
        if not self.training or self.rate == 0:
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.rate
        return branch * (kept / (1 - self.rate)).to(branch.dtype)


def position_code(
    lengths: Int64[Tensor, " batch"], num_frames: int, width: int
) -> Float[Tensor, "batch frames width"]:
    """Return sines (even channels) and cosines (odd) of t / T · 2π at frames t = 1 to T."""
    frames = torch.arange(1, num_frames + 1, device=lengths.device)
    angles = frames / (lengths[:, None] + 1e-6) * (2 * math.pi)
    channels = torch.arange(0, width, 2, device=lengths.device)
    waves = angles[..., None] / 10000.0 ** (channels / width)
    return torch.stack([waves.sin(), waves.cos()], dim=-1).flatten(2)
