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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from r2t.train.batch import Batch
from r2t.train.padding import Extents
from r2t.train.spatial_pooling import pool_patches
from r2t.train.temporal_refinement import TemporalRefinement, position_code
from r2t.train.tile_pooling import MapWeights
from r2t.train.video_tiles import VideoTokens, frames_in_tile, plan_tiles

WORDS_IN_WINDOW = 2**16  # frames times words that are pooled at once: 64 MB at a width of 256


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
    """Recurrent side block over frozen layers; all layers share its weights.

    `straightforward` computes the same one step after the other, as the paper has it, in more time
    and memory: what tests and benchmarks compare with.
    """

    straightforward = False

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

    def forward(self, batch: Batch, extents: Extents) -> BlockOutput:
        """Refine frames from the last layer to the first."""
        if self.straightforward:
            return self._refine(self._look_plainly(batch, extents), extents)
        if extents.isolated:
            tokens, affine = batch.videos, batch.affine
            video_of_query, lengths = batch.video_of_query.tolist(), batch.video_num_frames
        else:  # padding counts, so it must be zeros, which codes are not
            tokens, affine = batch.video, None
            video_of_query, lengths = list(range(len(batch))), extents.time_lengths
        words = self.query_map(batch.query.float()).transpose(0, 1)
        cls_tokens, pooled = pool_patches(
            VideoTokens(tokens, affine, self.times(lengths, tokens.shape[2])),
            video_of_query,
            words,
            self.pooling.probes(words),
            extents,
            MapWeights(*self.video_map.parameters()),
            self.video_map.dropout.p if self.video_map.training else 0.0,
        )
        looks = list(map(_Look, cls_tokens, words, pooled))
        return self._refine(reversed(looks), extents)

    def _look_plainly(self, batch: Batch, extents: Extents) -> Iterator[_Look]:
        """Do what `pool_patches` does one step after the other, last layer first."""
        video = batch.video
        times = self.times(extents.time_lengths, video.shape[2])
        for layer in reversed(range(video.shape[1])):
            tokens = video[:, layer].float()
            if times is not None:
                expanded = times[:, :, None].expand(-1, -1, tokens.shape[2], -1)
                tokens = torch.cat([tokens, expanded], dim=-1)
            patches = self.video_map(tokens)
            words = self.query_map(batch.query[:, layer].float())
            pooled = self.pooling(patches, words, extents.competing_words)
            yield _Look(patches[:, :, 0], words, pooled)

    def map_video(self, video: VideoTokens) -> Float[Tensor, "layers frames tokens hidden"]:
        """Return the part of one video that depends on no query, for `forward_mapped`."""
        _, num_layers, num_frames, num_tokens, _ = video.tokens.shape
        dtype = self.video_map.input_linear.weight.dtype
        mapped = video.tokens.new_empty(
            num_layers, num_frames, num_tokens, self.pooling.width, dtype=dtype
        )
        for tile in plan_tiles([(0, [0])], [num_frames], [0], frames_in_tile(video.tokens)):
            for layer in range(num_layers):
                mapped[layer, tile.frames] = self.video_map(video.read(layer, tile, dtype))[0]
        return mapped

    def forward_mapped(
        self,
        patches: Float[Tensor, "layers frames tokens hidden"],
        query: Float[Tensor, "batch layers words text_width"],
        extents: Extents,
    ) -> BlockOutput:
        """Answer queries of one video, mapped by `map_video`."""
        looks: list[_Look] = []
        for layer in reversed(range(len(patches))):
            words = self.query_map(query[:, layer].float())
            pooled = self.pooling.of_one_video(patches[layer], words, extents.competing_words)
            cls_tokens = patches[layer, :, 0].expand(len(query), -1, -1)
            looks.append(_Look(cls_tokens, words, pooled))
        return self._refine(looks, extents)

    def times(
        self, lengths: Int64[Tensor, " videos"], num_frames: int
    ) -> Float[Tensor, "videos frames 2"] | None:
        """Return the time features of videos of these lengths, if the block uses any."""
        return time_features(lengths, num_frames) if self.temporal_features else None

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

    def of_one_video(
        self,
        patches: Float[Tensor, "frames tokens width"],
        words: Float[Tensor, "batch words width"],
        competing_words: Bool[Tensor, "batch words"],
    ) -> Float[Tensor, "batch frames width"]:
        """Pool the patches of one video for several queries, all their words in one product."""
        probes = self.probes(words).flatten(0, 1)
        window = max(1, WORDS_IN_WINDOW // len(probes))
        pooled: list[Tensor] = []
        for seen in patches.split(window):
            attention = (probes @ seen.transpose(1, 2)).softmax(dim=-1)
            found = (attention @ seen).unflatten(1, words.shape[:2]) + words
            found.masked_fill_(~competing_words[None, ..., None], -math.inf)
            pooled.append(found.amax(dim=2).transpose(0, 1))
        return torch.cat(pooled, dim=1)


def time_features(
    lengths: Int64[Tensor, " batch"], num_frames: int
) -> Float[Tensor, "batch frames 2"]:
    """Return each frame's start and end as a fraction of the video."""
    ends = torch.arange(num_frames + 1, device=lengths.device) / lengths[:, None]
    return torch.stack([ends[:, :-1], ends[:, 1:]], dim=-1)
