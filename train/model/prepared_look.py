"""Spatial pooling of one video for many queries: its patches are mapped once and kept."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from r2t.train.model.questions import question_of
from r2t.train.model.r2_block import LayerFrames, LayerWeights
from r2t.train.model.tiled import VideoTokens, frames_in_tile, plan_tiles

WORDS_IN_WINDOW = 2**16  # frames times words that are pooled at once: 64 MB at a width of 256


def map_video(
    block: LayerWeights, video: VideoTokens
) -> Float[Tensor, "layers frames tokens hidden"]:
    """Map all patches of one video, which depends on no query, for `PreparedLook`."""
    video = video.part(slice(None), block.pooling.tokens)
    _, num_layers, num_frames, num_tokens, _ = video.tokens.shape
    weight = block.video_map.output_linear.weight
    mapped = weight.new_empty(num_layers, num_frames, num_tokens, len(weight))
    for tile in plan_tiles([(0, [0])], [num_frames], [0], frames_in_tile(video.tokens)):
        for layer in range(num_layers):
            tokens = video.read(layer, slice(0, 1), tile.frames, weight.dtype)
            mapped[layer, tile.frames] = block.of_layer(layer).video_map(tokens)[0]
    return mapped


class PreparedLook:
    """Pool what `map_video` returned for the words of several queries, without gradients."""

    def __init__(
        self,
        patches: Float[Tensor, "layers frames tokens hidden"],
        competing_words: Bool[Tensor, "batch words"],
    ) -> None:
        self.patches = patches
        self.competing_words = competing_words

    def __call__(
        self,
        weights: LayerWeights,
        words: Float[Tensor, "layers batch words hidden"],
        layers: slice = slice(None),
    ) -> tuple[LayerFrames, LayerFrames]:
        patches = self.patches[layers]
        words, probes, competing_words = question_of(weights.pooling, words, self.competing_words)
        pooled = [
            _pool(*of_layer, competing_words)
            for of_layer in zip(patches, words, probes, strict=True)
        ]
        # A copy, so that what is made of the video does not keep all of its patches.
        cls_tokens = patches[:, None, :, 0].clone().expand(-1, words.shape[1], -1, -1)
        return cls_tokens, torch.stack(pooled)


def _pool(
    patches: Float[Tensor, "frames tokens width"],
    words: Float[Tensor, "batch words width"],
    probes: Float[Tensor, "batch words width"],
    competing_words: Bool[Tensor, "batch words"],
) -> Float[Tensor, "batch frames width"]:
    """Pool the patches of one video for the words of all queries in one product."""
    all_probes = probes.flatten(0, 1)
    window = max(1, WORDS_IN_WINDOW // len(all_probes))
    pooled: list[Tensor] = []
    for seen in patches.split(window):
        attention = (all_probes @ seen.transpose(1, 2)).softmax(dim=-1)
        found = (attention @ seen).unflatten(1, words.shape[:2]) + words
        found.masked_fill_(~competing_words[None, ..., None], -math.inf)
        pooled.append(found.amax(dim=2).transpose(0, 1))
    return torch.cat(pooled, dim=1)
