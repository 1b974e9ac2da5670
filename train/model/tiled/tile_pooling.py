"""A tile of frames at one layer: the arithmetic of `spatial_pooling`, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from r2t.train.model.tiled.dropout_bits import as_numbers_, draw_kept, keep_, spread
from r2t.train.model.tiled.map_weights import MapGradients, MapWeights
from r2t.train.model.tiled.video_tiles import PlacedTile, VideoTokens

EPSILON = 1e-5  # of torch.nn.LayerNorm


@dataclass(frozen=True, eq=False)
class Setting:
    """What to pool, and how; no gradient is asked of any of it.

    `competing_words` are those that take part in the maximum. `dtype` is that of the products.
    `keep`: a backward pass will follow. `mapped_first`: the map's second linear layer meets every
    patch, and not what words have pooled of them.
    """

    video: VideoTokens
    tiles: list[PlacedTile]
    competing_words: Bool[Tensor, "batch words"]
    dropout: float
    dtype: torch.dtype
    keep: bool
    mapped_first: bool

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """Multiply matrices in `dtype`; the result has the dtype of the operands."""
        if left.dtype == self.dtype:
            return left @ right
        return (left.to(self.dtype) @ right.to(self.dtype)).to(left.dtype)

    def linear(self, values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Apply a linear layer, whose product is in `dtype`."""
        if values.dtype == self.dtype:
            return F.linear(values, weight, bias)
        return self.product(values, weight.T).add_(bias)

    def add_product_(self, total: Tensor, left: Tensor, right: Tensor) -> None:
        """Add to a matrix the product of two, or to several as many products."""
        if left.dtype != self.dtype:
            total.add_(self.product(left, right))
        elif total.ndim == 2:
            total.addmm_(left, right)
        else:
            total.baddbmm_(left, right)


class Kept(NamedTuple):
    """What the backward pass of a tile starts from.

    `statistics` of the features are their mean and inverse deviation.
    """

    statistics: tuple[Tensor, Tensor]
    hidden: Tensor
    input_kept: Tensor | None
    output_kept: Tensor | None
    mapped: Tensor | None
    attention: Tensor
    winners: Tensor


class TilePooling:
    """A tile at one layer. Letters: v videos, q queries, f frames, p patches, w words, c width.

    Where frames of all videos follow each other they are n, and words of all queries of a video s.
    """

    def __init__(
        self, setting: Setting, weights: MapWeights, layer: int, place: PlacedTile, seed: int | None
    ) -> None:
        self.setting = setting
        self.weights = weights
        self.layer = layer
        self.place = place
        self.seed = seed  # of dropout, None without
        tile = place.tile
        self.frames = tile.frames
        self.asked = (len(tile.queries), len(tile.queries[0]))

    def pool(self, words: Tensor, probes: Tensor, cls_tokens: Tensor, pooled: Tensor) -> Kept:
        """Write the tile's part of the results. Words that do not compete are -inf."""
        weights, setting = self.weights, self.setting
        features = self._features()
        features, mean, deviation = torch.native_layer_norm(
            features, features.shape[-1:], weights.input_gain, weights.input_shift, EPSILON
        )
        features = features.flatten(0, 2)
        generator = None
        if self.seed is not None:
            generator = torch.Generator(words.device).manual_seed(self.seed)
        input_kept = self._draw_kept(features, generator)
        keep_(features, _spread(input_kept, features))
        hidden = setting.linear(features, weights.input_weight, weights.input_bias).relu_()
        output_kept = self._draw_kept(hidden, generator)
        patches = self._patches(hidden, output_kept)[0]
        head = weights.output_weight, weights.output_bias
        mapped = setting.linear(patches, *head) if setting.mapped_first else None
        seen = patches if mapped is None else mapped
        scores = setting.product(self._by_video(seen), self._of_tile(probes).transpose(1, 2))
        attention = scores.view(*seen.shape[:2], -1).softmax(dim=1)  # n p s
        found = setting.product(attention.transpose(1, 2), seen)
        cls_patches = seen[:, 0]
        if mapped is None:
            found = setting.product(found, weights.output_weight.T)
            cls_patches = setting.linear(cls_patches, *head)
        found = self._by_video(found).unflatten(1, (-1, self._num_words * self.asked[1]))
        found += self._of_tile(words)[:, None]
        best, winners = found.unflatten(2, (self.asked[1], -1)).max(dim=3)  # v f q c
        self._write(pooled, best.transpose(1, 2))
        of_video = cls_patches.unflatten(0, (self.asked[0], 1, -1))
        self._write(cls_tokens, of_video.expand(-1, self.asked[1], -1, -1))
        return Kept((mean, deviation), hidden, input_kept, output_kept, mapped, attention, winners)

    def backward(
        self, probes: Tensor, kept: Kept, d_cls_tokens: Tensor, d_pooled: Tensor, sums: MapGradients
    ) -> tuple[Tensor, Tensor]:
        """Add the gradients of the map; return those of the tile's words and probes: v s c."""
        patches, mean, deviation = self._patches(kept.hidden, kept.output_kept)
        d_best = self._read(d_pooled).transpose(1, 2)
        d_found = d_best.new_zeros(*d_best.shape[:3], self._num_words, d_best.shape[3])
        d_found.scatter_(3, kept.winners[:, :, :, None], d_best[:, :, :, None])
        d_words = d_found.sum(dim=1).flatten(1, 2)
        d_cls = self._read(d_cls_tokens).sum(dim=1).flatten(0, 1)
        d_found = d_found.flatten(0, 1).flatten(1, 2)  # n s c
        d_patches, d_probes = self._pool_backward(patches, probes, kept, (d_found, d_cls), sums)
        del patches  # as large as the gradient
        self._map_backward(d_patches, kept, (mean, deviation), sums)
        return d_words, d_probes

    def add_rows_(self, by_query: Tensor, rows: Tensor) -> None:
        """Add rows of the tile's words to those of all queries."""
        place = (self.layer, self.place.rows, slice(self._num_words))
        by_query[place] += rows.view(-1, self._num_words, rows.shape[2])

    def _pool_backward(
        self,
        patches: Tensor,
        probes: Tensor,
        kept: Kept,
        d_outputs: tuple[Tensor, Tensor],
        sums: MapGradients,
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of y, which `patches` is, and of the probes."""
        setting, head = self.setting, self.weights.output_weight
        d_found, d_cls = d_outputs
        seen = patches if kept.mapped is None else kept.mapped
        if kept.mapped is None:
            found = setting.product(kept.attention.transpose(1, 2), patches)
            of_head = sums.map.output_weight
            setting.add_product_(of_head, d_found.flatten(0, 1).T, found.flatten(0, 1))
            setting.add_product_(of_head, d_cls.T, patches[:, 0])
            sums.map.output_bias.add_(d_found.sum(dim=(0, 1))).add_(d_cls.sum(dim=0))
            d_found, d_cls = setting.product(d_found, head), setting.product(d_cls, head)
        d_attention = setting.product(seen, d_found.transpose(1, 2))
        d_scores = torch.ops.aten._softmax_backward_data(
            d_attention, kept.attention, 1, d_attention.dtype
        )
        by_video = self._by_video(d_scores)
        d_probes = setting.product(by_video.transpose(1, 2), self._by_video(seen))
        d_seen = setting.product(kept.attention, d_found)
        setting.add_product_(self._by_video(d_seen), by_video, self._of_tile(probes))
        d_seen[:, 0] += d_cls
        if kept.mapped is not None:
            rows = d_seen.flatten(0, 1)
            setting.add_product_(sums.map.output_weight, rows.T, patches.flatten(0, 1))
            sums.map.output_bias.add_(rows.sum(dim=0))
            d_seen = setting.product(d_seen, head)
        return d_seen, d_probes

    def _map_backward(
        self, d_patches: Tensor, kept: Kept, statistics: tuple[Tensor, Tensor], sums: MapGradients
    ) -> None:
        """Add the gradients of the map, whose input needs none.

        `statistics` of the hidden layer are its mean and inverse deviation.
        """
        weights, setting = self.weights, self.setting
        d_hidden, d_gain, d_shift = torch.ops.aten.native_layer_norm_backward(
            keep_(d_patches, _spread(kept.output_kept, d_patches)).flatten(0, 1),
            kept.hidden,
            weights.output_gain.shape,
            *statistics,
            weights.output_gain,
            weights.output_shift,
            [True, True, True],
        )
        scale = 1 / (1 - setting.dropout)
        sums.map.output_gain.add_(d_gain, alpha=scale)
        sums.map.output_shift.add_(d_shift, alpha=scale)
        d_linear = torch.ops.aten.threshold_backward(d_hidden, kept.hidden, 0)
        sums.map.input_bias.add_(d_linear.sum(dim=0))
        mean, deviation = kept.statistics
        features = self._features().sub_(mean).mul_(deviation).flatten(0, 2)
        masks = _spread(kept.input_kept, features)
        setting.add_product_(sums.map.input_weight, d_linear.T, keep_(features, masks))
        if masks is not None:
            kept_inputs = as_numbers_(masks, features.dtype)
            setting.add_product_(sums.kept_inputs, d_linear.T, kept_inputs)

    @property
    def _num_words(self) -> int:
        return self.place.tile.num_words

    def _draw_kept(self, like: Tensor, generator: torch.Generator | None) -> Tensor | None:
        """Draw which elements of a tensor dropout keeps, all of them if None."""
        if generator is None:
            return None
        return draw_kept(like.numel(), self.setting.dropout, generator)

    def _features(self) -> Tensor:
        dtype = self.weights.input_weight.dtype
        return self.setting.video.read(self.layer, self.place.videos, self.frames, dtype)

    def _patches(self, hidden: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return y [n p c], and the mean and inverse deviation of the hidden layer."""
        gain, shift = self.weights.output_gain, self.weights.output_shift
        patches, mean, deviation = torch.native_layer_norm(hidden, gain.shape, gain, shift, EPSILON)
        keep_(patches, _spread(kept, patches))
        num_frames = self.asked[0] * (self.frames.stop - self.frames.start)
        return patches.view(num_frames, -1, patches.shape[1]), mean, deviation

    def _by_video(self, by_frame: Tensor) -> Tensor:
        """Put what frames have of each video into one row: n p c to v fp c."""
        return by_frame.view(self.asked[0], -1, by_frame.shape[2])

    def _of_tile(self, by_query: Tensor) -> Tensor:
        """Return all words of all queries of each of the tile's videos: v s c."""
        words = by_query[self.layer, self.place.rows, : self._num_words]
        return words.reshape(self.asked[0], -1, words.shape[2])

    def _read(self, by_query: Tensor) -> Tensor:
        """Return the tile's part of a result's gradient: v q f c."""
        return by_query[self.layer, self.place.rows, self.frames].unflatten(0, self.asked)

    def _write(self, by_query: Tensor, values: Tensor) -> None:
        """Write the tile's part of a result, given as v q f c."""
        by_query[self.layer, self.place.rows, self.frames] = values.flatten(0, 1)


def _spread(kept: Tensor | None, like: Tensor) -> Tensor | None:
    return None if kept is None else spread(kept, like)
