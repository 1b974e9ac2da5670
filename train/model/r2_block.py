"""The R² Block: query-modulated spatial pooling and recurrent temporal refinement.

One set of weights walks CLIP's layers from last to first. In each, the words look at the patches of
every frame, what they find is added to the frame's CLS token, and a small decoder layer refines the
result together with what later layers have already gathered. Switches of `R2Config` change each of
these for ablations.

Where the paper's formulas read differently we follow the official code, whose weights must load:
the mapped query is added to the pooled patches before the maximum over words, and patches are
pooled as they are, without a value projection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Num
from torch import Tensor, nn

from r2t.train.data import Batch
from r2t.train.model.config import R2Config
from r2t.train.model.padding import Extents
from r2t.train.model.pooling import make_pooling
from r2t.train.model.refinement import TemporalRefinement, position_code
from r2t.train.model.tiled import MapWeights, VideoTokens, frames_in_tile, plan_tiles, pool_patches

FEWEST_WORDS = 16  # attention to fewer takes a processor twice as long


@dataclass(frozen=True, eq=False)
class BlockOutput:
    """What the R² Block hands on.

    `frames` are the refined frames; `words` the mapped query of the last step's layer, the one that
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


class StepWeights(nn.Module):
    """What one layer's step computes with."""

    def __init__(self, config: R2Config) -> None:
        super().__init__()
        width = config.width
        video_width = config.vision_width + (2 if config.temporal_features else 0)
        self.video_map = FeatureMap(video_width, width, config.dropout)
        self.query_map = FeatureMap(config.text_width, width, config.dropout)
        self.pooling = make_pooling(config.pooling, width)
        self.refinement = TemporalRefinement(width, config.num_heads, config.drop_path)


class R2Block(StepWeights):
    """Recurrent side block over frozen layers; all layers share its weights, unless told otherwise.

    `straightforward` computes the same one step after the other, as the paper has it, in more time
    and memory: what tests and benchmarks compare with.
    """

    straightforward = False

    def __init__(self, config: R2Config) -> None:
        super().__init__(config)
        self.config = config
        num_layers = config.num_layers
        num_others = 0 if config.shared_weights else num_layers - 1
        self.others = nn.ModuleList(StepWeights(config) for _ in range(num_others))
        self.pooled_gate = self.recurrent_gate = self.layer_logits = None
        if config.pooling != "cls":
            self.pooled_gate = nn.Parameter(torch.zeros(num_layers))  # through tanh: closed
        if config.direction != "parallel":
            self.recurrent_gate = nn.Parameter(torch.zeros(num_layers - 1))  # sigmoid: half
        if config.layer_weighting:
            self.layer_logits = nn.Parameter(torch.zeros(num_layers))  # softmax: all alike

    def forward(self, batch: Batch, extents: Extents) -> BlockOutput:
        """Look at the patches of every layer, and refine frames layer after layer."""
        if self.straightforward:
            return self._refine(self._look_plainly(batch, extents), extents)
        if extents.isolated:
            tokens, affine = batch.videos, batch.affine
            video_of_query, lengths = batch.video_of_query.tolist(), batch.video_num_frames
        else:  # padding counts, so it must be zeros, which codes are not
            tokens, affine = batch.video, None
            video_of_query, lengths = list(range(len(batch))), extents.time_lengths
        tokens = self._seen(tokens)
        times = self.times(lengths, tokens.shape[2])
        looks: list[_Look] = []
        for layers, weights in self._parts():
            words = weights.query_map(batch.query[:, layers].float()).transpose(0, 1)
            cls_tokens, pooled = pool_patches(
                VideoTokens(
                    tokens[:, layers], None if affine is None else affine[:, :, layers], times
                ),
                video_of_query,
                *weights.pooling.asks(words, extents.competing_words),
                extents,
                MapWeights(*weights.video_map.parameters()),
                weights.video_map.dropout.p if self.training else 0.0,
            )
            looks += map(_Look, cls_tokens, words, pooled)
        return self._refine(looks, extents)

    def _look_plainly(self, batch: Batch, extents: Extents) -> list[_Look]:
        """Do what `pool_patches` does one step after the other."""
        video = self._seen(batch.video)
        times = self.times(extents.time_lengths, video.shape[2])
        looks: list[_Look] = []
        for layer in range(video.shape[1]):
            weights = self._weights(layer)
            tokens = video[:, layer].float()
            if times is not None:
                expanded = times[:, :, None].expand(-1, -1, tokens.shape[2], -1)
                tokens = torch.cat([tokens, expanded], dim=-1)
            patches = weights.video_map(tokens)
            words = weights.query_map(batch.query[:, layer].float())
            pooled = weights.pooling(patches, words, extents.competing_words)
            looks.append(_Look(patches[:, :, 0], words, pooled))
        return looks

    def map_video(self, video: VideoTokens) -> Float[Tensor, "layers frames seen hidden"]:
        """Return the part of one video that depends on no query, for `forward_mapped`."""
        video = replace(video, tokens=self._seen(video.tokens))
        _, num_layers, num_frames, num_tokens, _ = video.tokens.shape
        dtype = self.video_map.input_linear.weight.dtype
        mapped = video.tokens.new_empty(
            num_layers, num_frames, num_tokens, self.config.width, dtype=dtype
        )
        for tile in plan_tiles([(0, [0])], [num_frames], [0], frames_in_tile(video.tokens)):
            for layer in range(num_layers):
                tokens = video.read(layer, slice(0, 1), tile.frames, dtype)
                mapped[layer, tile.frames] = self._weights(layer).video_map(tokens)[0]
        return mapped

    def forward_mapped(
        self,
        patches: Float[Tensor, "layers frames tokens hidden"],
        query: Float[Tensor, "batch layers words text_width"],
        extents: Extents,
    ) -> BlockOutput:
        """Answer queries of one video, mapped by `map_video`."""
        looks: list[_Look] = []
        for layer in range(len(patches)):
            weights = self._weights(layer)
            words = weights.query_map(query[:, layer].float())
            pooled = weights.pooling.of_one_video(patches[layer], words, extents.competing_words)
            cls_tokens = patches[layer, :, 0].expand(len(query), -1, -1)
            looks.append(_Look(cls_tokens, words, pooled))
        return self._refine(looks, extents)

    def times(
        self, lengths: Int64[Tensor, " videos"], num_frames: int
    ) -> Float[Tensor, "videos frames 2"] | None:
        """Return the time features of videos of these lengths, if the block uses any."""
        return time_features(lengths, num_frames) if self.config.temporal_features else None

    def _weights(self, layer: int) -> StepWeights:
        if self.config.shared_weights or not layer:
            return self
        return cast("StepWeights", self.others[layer - 1])

    def _parts(self) -> list[tuple[slice, StepWeights]]:
        """Return runs of layers that share weights, and these."""
        if self.config.shared_weights:
            return [(slice(None), self)]
        return [(slice(n, n + 1), self._weights(n)) for n in range(self.config.num_layers)]

    def _seen(self, tokens: Num[Tensor, "*some tokens width"]) -> Num[Tensor, "*some seen width"]:
        """Return the tokens of a frame that the block looks at."""
        return tokens[..., :1, :] if self.config.pooling == "cls" else tokens

    def _refine(self, looks: Sequence[_Look], extents: Extents) -> BlockOutput:
        """Gather what the layers' looks found, one after another."""
        num_frames = extents.frame_mask.shape[1]
        positions = position_code(extents.time_lengths, num_frames, self.config.width)
        missing = max(0, FEWEST_WORDS - extents.word_mask.shape[1])
        word_mask = F.pad(extents.word_mask, (0, missing))
        order = list(range(len(looks)))
        if self.config.direction == "backward":
            order.reverse()
        states: list[Tensor] = []
        for layer in order:
            look = looks[layer]
            update = look.cls_tokens
            if self.pooled_gate is not None:
                update = update + torch.tanh(self.pooled_gate[layer]) * look.pooled
            if states and self.recurrent_gate is not None:
                lower = layer if self.config.direction == "backward" else layer - 1
                gate = torch.sigmoid(self.recurrent_gate[lower])
                update = gate * update + (1 - gate) * states[-1]
            states.append(
                self._weights(layer).refinement(
                    update,
                    F.pad(look.words, (0, 0, 0, missing)),
                    positions,
                    extents.frame_mask,
                    word_mask,
                )
            )
        return BlockOutput(
            frames=self._read(states, order),
            words=self._read([looks[layer].words for layer in order], order),
            layer_frames=torch.stack([look.cls_tokens for look in looks]),
            layer_words=torch.stack([look.words for look in looks]),
        )

    def _read(self, states: list[Tensor], order: list[int]) -> Tensor:
        """Return what is handed on of the states after each step."""
        if self.layer_logits is not None:
            weights = self.layer_logits.softmax(dim=0)[order]
            return torch.einsum("l,l...->...", weights, torch.stack(states))
        if self.config.direction == "parallel":
            return torch.stack(states).mean(dim=0)
        return states[-1]


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


def time_features(
    lengths: Int64[Tensor, " batch"], num_frames: int
) -> Float[Tensor, "batch frames 2"]:
    """Return each frame's start and end as a fraction of the video."""
    ends = torch.arange(num_frames + 1, device=lengths.device) / lengths[:, None]
    return torch.stack([ends[:, :-1], ends[:, 1:]], dim=-1)
