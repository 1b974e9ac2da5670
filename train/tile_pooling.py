"""A tile of frames at one layer: the arithmetic of `spatial_pooling`, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from r2t.train.dropout_bits import as_numbers_, draw_kept, keep_, spread
from r2t.train.video_tiles import Tile, VideoTokens, as_slice

EPSILON = 1e-5  # of torch.nn.LayerNorm


class MapWeights(NamedTuple):
    """Parameters of a `FeatureMap`, in the order of its definition."""

    input_gain: Tensor
    input_shift: Tensor
    input_weight: Tensor
    input_bias: Tensor
    output_gain: Tensor
    output_shift: Tensor
    output_weight: Tensor
    output_bias: Tensor


@dataclass(frozen=True, eq=False)
class Setting:
    """What to pool, and how; no gradient is asked of any of it.

    `competing_words` are those that take part in the maximum. `dtype` is that of the products.
    `keep`: a backward pass will follow.
    """

    video: VideoTokens
    tiles: list[Tile]
    competing_words: Bool[Tensor, "batch words"]
    dropout: float
    dtype: torch.dtype
    keep: bool

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """Multiply matrices in `dtype`; the result has the dtype of the operands."""
        return (left.to(self.dtype) @ right.to(self.dtype)).to(left.dtype)


class Kept(NamedTuple):
    """What the backward pass of a tile starts from."""

    hidden: Tensor
    input_kept: Tensor | None
    output_kept: Tensor | None
    attention: Tensor
    winners: Tensor


class Sums(NamedTuple):
    """Gradients so far. `map.input_weight` holds A and `kept_inputs` B until `finish`."""

    words: Tensor
    probes: Tensor
    map: MapWeights
    kept_inputs: Tensor

    @classmethod
    def zero(cls, words: Tensor, weights: MapWeights) -> Sums:
        of_map = MapWeights(*[torch.zeros_like(weight) for weight in weights])
        kept_inputs = torch.zeros_like(weights.input_weight)
        return cls(torch.zeros_like(words), torch.zeros_like(words), of_map, kept_inputs)

    def add_(self, other: Sums) -> Sums:
        """Add another part of the gradients."""
        mine = (self.words, self.probes, *self.map, self.kept_inputs)
        theirs = (other.words, other.probes, *other.map, other.kept_inputs)
        for own, more in zip(mine, theirs, strict=True):
            own.add_(more)
        return self

    def finish(self, weights: MapWeights, dropout: float) -> MapWeights:
        """Return the gradients of the map's parameters."""
        scale = 1 / (1 - dropout)
        with_inputs = self.map.input_weight * scale
        if dropout:
            with_kept = self.kept_inputs * scale
        else:
            with_kept = self.map.input_bias[:, None].expand_as(with_inputs)
        return self.map._replace(
            input_gain=(weights.input_weight * with_inputs).sum(dim=0),
            input_shift=(weights.input_weight * with_kept).sum(dim=0),
            input_weight=with_inputs * weights.input_gain + with_kept * weights.input_shift,
        )


class TilePooling:
    """A tile at one layer. Letters: v videos, f frames, p patches, q queries, w words, c width."""

    def __init__(
        self, setting: Setting, weights: MapWeights, layer: int, tile: Tile, seed: int | None
    ) -> None:
        self.setting = setting
        self.weights = weights
        self.layer = layer
        self.tile = tile
        self.seed = seed  # of dropout, None without
        self.rows = as_slice([query for group in tile.queries for query in group])
        self.asked = (len(tile.queries), len(tile.queries[0]))
        self.scale = 1 / (1 - setting.dropout)  # of what dropout keeps; part of the norms' weights

    def pool(self, words: Tensor, probes: Tensor, cls_tokens: Tensor, pooled: Tensor) -> Kept:
        """Write the tile's part of the results."""
        weights, product = self.weights, self.setting.product
        features = self._normalised(
            weights.input_gain * self.scale, weights.input_shift * self.scale
        )
        generator = None
        if self.seed is not None:
            generator = torch.Generator(words.device).manual_seed(self.seed)
        input_kept = self._draw_kept(features, generator)
        keep_(features, _spread(input_kept, features))
        hidden = product(features, weights.input_weight.T).add_(weights.input_bias).relu_()
        output_kept = self._draw_kept(hidden, generator)
        patches = self._patches(hidden, output_kept)[0]  # y: v f p c
        scores = product(patches.flatten(1, 2), self._probes(probes).transpose(1, 2))
        attention = scores.unflatten(1, patches.shape[1:3]).softmax(dim=2)  # v f p qw
        seen = product(attention.transpose(2, 3), patches)
        found = product(seen, weights.output_weight.T).unflatten(2, (self.asked[1], -1))
        found += (self._of_tile(words) + weights.output_bias)[:, None]
        if self.tile.padded:
            competing = self.setting.competing_words[self.rows, : self.tile.num_words]
            out = ~competing.unflatten(0, self.asked)[:, None, ..., None]
            found.masked_fill_(out, -torch.inf)
        best, winners = found.max(dim=3)  # v f q c
        pooled[self.layer, self.rows, self.tile.frames] = best.transpose(1, 2).flatten(0, 1)
        mapped = product(patches[:, :, 0], weights.output_weight.T) + weights.output_bias
        cls_tokens[self.layer, self.rows, self.tile.frames] = mapped.repeat_interleave(
            self.asked[1], dim=0
        )
        return Kept(hidden, input_kept, output_kept, attention, winners)

    def backward(
        self, probes: Tensor, kept: Kept, d_cls_tokens: Tensor, d_pooled: Tensor, sums: Sums
    ) -> None:
        """Add the gradients of words, probes and map."""
        patches, mean, deviation = self._patches(kept.hidden, kept.output_kept)
        d_patches = self._pool_backward(patches, probes, kept, (d_cls_tokens, d_pooled), sums)
        del patches  # as large as the gradient
        self._map_backward(d_patches, kept, (mean, deviation), sums)

    def _pool_backward(
        self,
        patches: Tensor,
        probes: Tensor,
        kept: Kept,
        d_outputs: tuple[Tensor, Tensor],
        sums: Sums,
    ) -> Tensor:
        """Return the gradient of y, which `patches` is."""
        weights, product = self.weights, self.setting.product
        d_cls_tokens, d_pooled = d_outputs
        here = (self.layer, self.rows, self.tile.frames)
        d_best = d_pooled[here].unflatten(0, self.asked).transpose(1, 2)
        d_mapped = d_cls_tokens[here].unflatten(0, self.asked).sum(dim=1)
        d_found = d_best.new_zeros(*d_best.shape[:3], self.tile.num_words, d_best.shape[3])
        d_found.scatter_(3, kept.winners[:, :, :, None], d_best[:, :, :, None])
        sums.words[self.layer, self.rows, : self.tile.num_words] += d_found.sum(1).flatten(0, 1)

        d_found = d_found.flatten(2, 3)
        seen = product(kept.attention.transpose(2, 3), patches)
        cls_patches = patches[:, :, 0]
        sums.map.output_weight.add_(product(d_found.flatten(0, 2).T, seen.flatten(0, 2)))
        sums.map.output_weight.add_(product(d_mapped.flatten(0, 1).T, cls_patches.flatten(0, 1)))
        sums.map.output_bias.add_(d_best.sum(dim=(0, 1, 2)) + d_mapped.sum(dim=(0, 1)))

        d_seen = product(d_found, weights.output_weight)
        weighted = product(patches, d_seen.transpose(2, 3)) * kept.attention
        d_scores = weighted - kept.attention * weighted.sum(dim=2, keepdim=True)
        d_scores = d_scores.flatten(1, 2)
        d_probes = product(d_scores.transpose(1, 2), patches.flatten(1, 2))
        sums.probes[self.layer, self.rows, : self.tile.num_words] += d_probes.unflatten(
            1, (self.asked[1], -1)
        ).flatten(0, 1)
        d_patches = product(kept.attention, d_seen)
        d_patches += product(d_scores, self._probes(probes)).unflatten(1, patches.shape[1:3])
        d_patches[:, :, 0] += product(d_mapped, weights.output_weight)
        return d_patches

    def _map_backward(
        self, d_patches: Tensor, kept: Kept, statistics: tuple[Tensor, Tensor], sums: Sums
    ) -> None:
        """Add the gradients of the map, whose input needs none.

        `statistics` of the hidden layer are its mean and inverse deviation.
        """
        weights, product = self.weights, self.setting.product
        gain, shift = weights.output_gain * self.scale, weights.output_shift * self.scale
        d_hidden, d_gain, d_shift = torch.ops.aten.native_layer_norm_backward(
            keep_(d_patches, _spread(kept.output_kept, d_patches)).flatten(0, 2),
            kept.hidden,
            gain.shape,
            *statistics,
            gain,
            shift,
            [True, True, True],
        )
        sums.map.output_gain.add_(d_gain, alpha=self.scale)
        sums.map.output_shift.add_(d_shift, alpha=self.scale)
        d_linear = torch.ops.aten.threshold_backward(d_hidden, kept.hidden, 0)
        sums.map.input_bias.add_(d_linear.sum(dim=0))
        features = self._normalised(None, None)
        masks = _spread(kept.input_kept, features)
        sums.map.input_weight.add_(product(d_linear.T, keep_(features, masks)))
        if masks is not None:
            sums.kept_inputs.add_(product(d_linear.T, as_numbers_(masks, features.dtype)))

    def _draw_kept(self, like: Tensor, generator: torch.Generator | None) -> Tensor | None:
        """Draw which elements of a tensor dropout keeps, all of them if None."""
        if generator is None:
            return None
        return draw_kept(like.numel(), self.setting.dropout, generator)

    def _normalised(self, gain: Tensor | None, shift: Tensor | None) -> Tensor:
        features = self.setting.video.read(self.layer, self.tile, self.weights.input_weight.dtype)
        width = features.shape[-1:]
        return torch.native_layer_norm(features, width, gain, shift, EPSILON)[0].flatten(0, 2)

    def _patches(self, hidden: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return y [v f p c], and the mean and inverse deviation of the hidden layer."""
        gain, shift = self.weights.output_gain * self.scale, self.weights.output_shift * self.scale
        width = gain.shape
        patches, mean, deviation = torch.native_layer_norm(hidden, width, gain, shift, EPSILON)
        num_frames = self.tile.frames.stop - self.tile.frames.start
        keep_(patches, _spread(kept, patches))
        return patches.unflatten(0, (self.asked[0], num_frames, -1)), mean, deviation

    def _of_tile(self, by_query: Tensor) -> Tensor:
        """Return the rows of the tile's queries: v q w c."""
        return by_query[self.layer, self.rows, : self.tile.num_words].unflatten(0, self.asked)

    def _probes(self, probes: Tensor) -> Tensor:
        """Return all words of all queries of each video: v qw c."""
        return self._of_tile(probes).flatten(1, 2)


def _spread(kept: Tensor | None, like: Tensor) -> Tensor | None:
    return None if kept is None else spread(kept, like)
