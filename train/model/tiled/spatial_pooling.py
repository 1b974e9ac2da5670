"""Map patches and pool them by the words, with fewer operations and little memory.

What a `FeatureMap` and a pooling do to a video, reordered; the same numbers but for rounding.
With y = dropout(norm(relu(input_linear(…)))), so that a mapped patch is v = W y + b:

- Words score patches by w · v with w = Wkᵀ (Wq q + bq). Over the patches of a frame the softmax
  cancels w · b, so the scores are (Wᵀ w) · y: two projections move from the patches to the words.
- Weights of a softmax sum to 1, so Σ a (W y + b) = W (Σ a y) + b: W meets what a word has pooled,
  once per word and frame, and the CLS token, instead of every patch. Where queries that share a
  video have more words than a frame has patches, W meets the patches first, as written.
- Frozen features need no gradient, so the first norm needs no backward pass over the patches. With
  g and c its weight and bias, u = kept · normalised and dz the gradient of input_linear's output,
  A = dzᵀ u and B = dzᵀ kept give dW = A g + B c, dg = Σ W A and dc = Σ W B.

It goes through tiles of frames small enough to stay in a processor's cache. The backward pass
starts from the tile's features, read and normalised again, from the hidden layer after the ReLU,
from the patches if W met them, and from dropout as bits. On a processor the tiles are
dealt out in parts, which cores work on side by side; a part adds to a gradient of its own, and a
tile draws from a seed of its own, so equal seeds give equal bits on however many cores.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from r2t.train.model.tiled.map_weights import MapGradients, MapWeights
from r2t.train.model.tiled.tile_lanes import count_parts, in_lanes
from r2t.train.model.tiled.tile_pooling import Kept, Setting, TilePooling
from r2t.train.model.tiled.video_tiles import VideoTokens, frames_in_tile, place_tiles, plan_tiles


class Question(NamedTuple):
    """What queries ask of the patches of their videos.

    `words` are mapped; products of `probes` with mapped patches are the scores; `competing_words`
    take part in the maximum.
    """

    words: Float[Tensor, "layers batch words width"]
    probes: Float[Tensor, "layers batch words width"]
    competing_words: Bool[Tensor, "batch words"]


def pool_patches(
    video: VideoTokens,
    video_of_query: list[int],
    num_frames: list[int],
    question: Question,
    weights: MapWeights,
    dropout: float,
    max_frames: int | None = None,
) -> tuple[Float[Tensor, "layers batch frames width"], Float[Tensor, "layers batch frames width"]]:
    """Return each query's mapped CLS tokens, and the maximum of what its words pooled.

    `num_frames` of each query's video are looked at; those after them may be left zero. A tile has
    `max_frames`, or as many as suit the device. Queries share the work on their video, except where
    dropout gives each a draw of its own.
    """
    words, probes, competing_words = question
    asked: list[tuple[int, list[int]]] = [(v, [query]) for query, v in enumerate(video_of_query)]
    if not dropout:
        queries: dict[int, list[int]] = {}
        for query, place in enumerate(video_of_query):
            queries.setdefault(place, []).append(query)
        asked = list(queries.items())
    num_words = competing_words.sum(dim=1).tolist()
    max_frames = max_frames or frames_in_tile(video.tokens)
    tiles = list(plan_tiles(asked, num_frames, num_words, max_frames))
    mapped_first = maps_first(sum(num_words), len(asked) * video.tokens.shape[3])
    device = words.device.type
    mixed = torch.is_autocast_enabled(device)
    own = weights.input_weight.dtype
    setting = Setting(
        video=video,
        tiles=place_tiles(tiles, words.device),
        competing_words=competing_words,
        dropout=dropout,
        dtype=torch.get_autocast_dtype(device) if mixed else own,
        keep=torch.is_grad_enabled(),
        mapped_first=mapped_first,
    )
    if not mapped_first:
        probes = probes @ weights.output_weight
    return PoolPatches.apply(setting, words.to(own), probes.to(own), *weights)


def maps_first(num_words: int, num_patches: int) -> bool:
    """Return whether the map's second linear layer meets fewer rows before they are pooled."""
    return num_words > num_patches


class PoolPatches(torch.autograd.Function):
    """Return CLS tokens and pooled patches [layers, batch, frames, width] of each query's video.

    `words` are the mapped words [layers, batch, words, width]; `probes`, of the same shape, the
    vectors whose products with what the words look at are the scores: mapped patches or y. Frames
    that no tile covers are zero.
    """

    @staticmethod
    def forward(
        ctx: Any, setting: Setting, words: Tensor, probes: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        weights = MapWeights(*parameters)
        layers, batch, _, width = words.shape
        cls_tokens = words.new_zeros(layers, batch, setting.video.tokens.shape[2], width)
        pooled = torch.zeros_like(cls_tokens)
        places = [(layer, tile) for layer in range(layers) for tile in setting.tiles]
        # Nothing is drawn without dropout: to evaluate must not change what training draws.
        seeds = [None] * len(places)
        if setting.dropout:
            seeds = torch.randint(2**62, (len(places),)).tolist()
        scaled = weights.scaled(setting.dropout)
        works = [
            TilePooling(setting, scaled, layer, tile, seed)
            for (layer, tile), seed in zip(places, seeds, strict=True)
        ]
        num_parts = count_parts(words.device, len(works))
        competing = words if setting.mapped_first else words + weights.output_bias
        competing = competing.masked_fill(~setting.competing_words[..., None], -torch.inf)

        def pool(part: int) -> list[Kept]:
            mine = works[part::num_parts]
            kept = (work.pool(competing, probes, cls_tokens, pooled) for work in mine)
            return [each for each in kept if setting.keep]

        with torch.autocast(words.device.type, enabled=False):  # the setting's dtype decides
            ctx.kept = in_lanes(num_parts, pool)
        ctx.setting, ctx.works = setting, works
        ctx.save_for_backward(words, probes, *parameters)
        return cls_tokens, pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        d_cls_tokens, d_pooled = grad_outputs
        words, probes, *parameters = ctx.saved_tensors
        weights = MapWeights(*parameters)
        num_parts = len(ctx.kept)

        def add_gradients(part: int) -> tuple[MapGradients, list[tuple[Tensor, Tensor]]]:
            sums = MapGradients.zero(weights)
            pairs = zip(ctx.works[part::num_parts], ctx.kept[part], strict=True)
            return sums, [
                work.backward(probes, kept, d_cls_tokens, d_pooled, sums) for work, kept in pairs
            ]

        d_words, d_probes = torch.zeros_like(words), torch.zeros_like(probes)
        with torch.autocast(words.device.type, enabled=False):
            parts = in_lanes(num_parts, add_gradients)
            for part, (_, of_tiles) in enumerate(parts):
                works = ctx.works[part::num_parts]
                for work, (of_words, of_probes) in zip(works, of_tiles, strict=True):
                    work.add_rows_(d_words, of_words)
                    work.add_rows_(d_probes, of_probes)
            sums = reduce(MapGradients.add_, [sums for sums, _ in parts])
            return (None, d_words, d_probes, *sums.finish(weights, ctx.setting.dropout))
