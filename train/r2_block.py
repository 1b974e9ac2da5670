"""The R² Block: query-modulated spatial pooling and recurrent temporal refinement.

One set of weights walks CLIP's layers from last to first. In each, the words look at the patches of
every frame, what they find is added to the frame's CLS token, and a small decoder layer refines the
result together with what later layers have already gathered.

Where the paper's formulas read differently we follow the official code, whose weights must load:
the mapped query is added to the pooled patches before the maximum over words, and patches are
pooled as they are, without a value projection.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from r2t.train.padding import Extents


@dataclass(frozen=True, eq=False)
class BlockOutput:
    """What the R² Block hands on.

    `frames` are the refined frames; `words` the mapped query of the earliest layer, the one that
    saliency is measured against. `layer_frames` (mapped CLS tokens) and `layer_words` hold every
    layer, ascending, for the calibration losses.
    """

    frames: Float[Tensor, "batch frames hidden"]
    words: Float[Tensor, "batch words hidden"]
    layer_frames: Float[Tensor, "layers batch frames hidden"]
    layer_words: Float[Tensor, "layers batch words hidden"]


@dataclass(frozen=True, eq=False)
class _Look:
    """One layer's mapped CLS tokens and words, and what the words found among the patches."""

    cls_tokens: Float[Tensor, "batch frames hidden"]
    words: Float[Tensor, "batch words hidden"]
    pooled: Float[Tensor, "batch frames hidden"]


class R2Block(nn.Module):
    """Recurrent side block over frozen layers; all layers share its weights."""

    def __init__(
        self,
        *,
        num_layers: int,
        vision_width: int,
        text_width: int,
        width: int,
        num_heads: int,
        temporal_features: bool,
        dropout: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.temporal_features = temporal_features
        video_width = vision_width + 2 if temporal_features else vision_width
        self.video_map = FeatureMap(video_width, width, dropout)
        self.query_map = FeatureMap(text_width, width, dropout)
        self.pooling = SpatialPooling(width)
        self.refinement = TemporalRefinement(width, num_heads, drop_path)
        self.pooled_gate = nn.Parameter(torch.zeros(num_layers))  # through tanh: starts closed
        self.recurrent_gate = nn.Parameter(torch.zeros(num_layers - 1))  # through sigmoid: half

    def forward(
        self,
        video: Float[Tensor, "batch layers frames tokens vision_width"],
        query: Float[Tensor, "batch layers words text_width"],
        extents: Extents,
    ) -> BlockOutput:
        """Refine frames from the last layer to the first."""
        times = time_features(extents.time_lengths, video.shape[2])
        looks = (
            self._look(
                self.video_map(self._with_times(video[:, layer].float(), times)),
                self.query_map(query[:, layer].float()),
                extents,
            )
            for layer in reversed(range(video.shape[1]))
        )
        return self._refine(looks, extents)

    def map_video(
        self, video: Float[Tensor, "layers frames tokens vision_width"]
    ) -> Float[Tensor, "layers frames tokens hidden"]:
        """Return the part of a video that depends on no query, for `forward_mapped`."""
        lengths = torch.tensor([video.shape[1]], device=video.device)
        times = time_features(lengths, video.shape[1])
        return torch.cat(
            [self.video_map(self._with_times(layer[None].float(), times)) for layer in video]
        )

    def forward_mapped(
        self,
        patches: Float[Tensor, "layers frames tokens hidden"],
        query: Float[Tensor, "batch layers words text_width"],
        extents: Extents,
    ) -> BlockOutput:
        """Answer several queries of one video, mapped by `map_video`, with it read once for all."""
        looks = (
            self._look(patches[layer, None], self.query_map(query[:, layer].float()), extents)
            for layer in reversed(range(len(patches)))
        )
        return self._refine(looks, extents)

    def _look(self, patches: Tensor, words: Tensor, extents: Extents) -> _Look:
        """Let words look at patches of their own videos or, if there is but one, of that one."""
        if len(patches) == len(words):
            pooled = self.pooling(patches, words, extents.competing_words)
        else:
            pooled = self.pooling.shared(patches[0], words, extents.competing_words)
        return _Look(patches[:, :, 0].expand(len(words), -1, -1), words, pooled)

    def _refine(self, looks: Iterable[_Look], extents: Extents) -> BlockOutput:
        """Gather what the layers' looks found, last layer first."""
        num_frames = extents.frame_mask.shape[1]
        positions = position_code(extents.time_lengths, num_frames, self.pooling.width)
        layer_frames: list[Tensor] = []
        layer_words: list[Tensor] = []
        frames = None
        for layer, look in zip(reversed(range(len(self.pooled_gate))), looks, strict=True):
            cls_tokens, words, pooled = look.cls_tokens, look.words, look.pooled
            update = cls_tokens + torch.tanh(self.pooled_gate[layer]) * pooled
            if frames is not None:
                gate = torch.sigmoid(self.recurrent_gate[layer])
                update = gate * update + (1 - gate) * frames
            frames = self.refinement(
                update, words, positions, extents.frame_mask, extents.word_mask
            )
            layer_frames.append(cls_tokens)
            layer_words.append(words)
        assert frames is not None
        return BlockOutput(
            frames=frames,
            words=layer_words[-1],
            layer_frames=torch.stack(layer_frames[::-1]),
            layer_words=torch.stack(layer_words[::-1]),
        )

    def _with_times(self, tokens: Tensor, times: Tensor) -> Tensor:
        if not self.temporal_features:
            return tokens
        return torch.cat([tokens, times[:, :, None].expand(-1, -1, tokens.shape[2], -1)], dim=-1)


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


class SpatialPooling(nn.Module):
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
        # (Wk p) · (Wq w) = p · (Wkᵀ Wq w): projecting the few words spares projecting all patches.
        probes = self.word_query(words) @ self.patch_key.weight / math.sqrt(self.width)
        scores = torch.einsum("bwc,btpc->btwp", probes, patches)
        found = scores.softmax(dim=-1) @ patches + words[:, None]
        return found.masked_fill(~competing_words[:, None, :, None], -math.inf).amax(dim=2)

    def shared(
        self,
        patches: Float[Tensor, "frames tokens width"],
        words: Float[Tensor, "batch words width"],
        competing_words: Bool[Tensor, "batch words"],
    ) -> Float[Tensor, "batch frames width"]:
        """Pool the patches of one video for several queries, all their words in one product."""
        probes = self.word_query(words) @ self.patch_key.weight / math.sqrt(self.width)
        scores = torch.matmul(probes.flatten(0, 1), patches.transpose(1, 2))
        found = (scores.softmax(dim=-1) @ patches).unflatten(1, words.shape[:2]) + words
        found = found.masked_fill(~competing_words[None, ..., None], -math.inf)
        return found.amax(dim=2).transpose(0, 1)


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
        found = F.scaled_dot_product_attention(
            self._split(self.query(queries)),
            self._split(self.key(keys)),
            self._split(self.value(values)),
            attn_mask=key_mask[:, None, None],
        )
        return self.output(found.transpose(1, 2).flatten(2))

    def _split(self, features: Tensor) -> Tensor:
        return features.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


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


def time_features(
    lengths: Int64[Tensor, " batch"], num_frames: int
) -> Float[Tensor, "batch frames 2"]:
    """Return each frame's start and end as a fraction of the video."""
    ends = torch.arange(num_frames + 1, device=lengths.device) / lengths[:, None]
    return torch.stack([ends[:, :-1], ends[:, 1:]], dim=-1)


def position_code(
    lengths: Int64[Tensor, " batch"], num_frames: int, width: int
) -> Float[Tensor, "batch frames width"]:
    """Return sines (even channels) and cosines (odd) of t / T · 2π at frames t = 1 to T."""
    frames = torch.arange(1, num_frames + 1, device=lengths.device)
    angles = frames / (lengths[:, None] + 1e-6) * (2 * math.pi)
    channels = torch.arange(0, width, 2, device=lengths.device)
    waves = angles[..., None] / 10000.0 ** (channels / width)
    return torch.stack([waves.sin(), waves.cos()], dim=-1).flatten(2)
