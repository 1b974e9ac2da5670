"""Spatial pooling of a whole batch, a layer at a time: few large steps, as a GPU wants them.

The arithmetic is that of `tiled`, left to autograd: words meet patches before the map's second
linear layer does, and the key's projection moves to the words. The two times of a frame, which are
the same for all of its tokens, are normalised and multiplied apart from the tokens: beside them a
token would be 770 numbers wide, which no kernel loads in whole vectors.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from r2t.train.data import Batch, mask_of
from r2t.train.model.compiling import Compiled
from r2t.train.model.config import R2Config
from r2t.train.model.feature_map import time_features
from r2t.train.model.padding import Extents
from r2t.train.model.questions import question_of
from r2t.train.model.r2_block import LayerFrames, LayerWeights
from r2t.train.model.tiled import EPSILON, MapWeights, maps_first


class SeenLayer(NamedTuple):
    """The frozen tokens of a layer's videos, as they are stored, and what reading them takes.

    `affine` decodes eight-bit codes. `real`, where padding has to be zero, is 1 at the frames that
    are not. `owners` says which video each query asks about, None where each has its own.
    """

    tokens: Tensor  # [videos, frames, tokens, width]
    affine: Tensor | None  # [videos, 2, width]
    real: Tensor | None  # [videos, frames]
    times: Tensor | None  # [videos, frames, 2]
    owners: Tensor | None  # [batch]


class How(NamedTuple):
    """How a layer is computed.

    `dtype` is that of the products. `apart`: each query maps its video for itself, as dropout and
    gradients need it. `mapped_first`: the map's second linear layer meets every patch, and not what
    words have pooled of them.
    """

    dtype: torch.dtype
    dropout: float
    apart: bool
    mapped_first: bool


class WholeLook:
    """Look at all videos of a batch at once, in autograd.

    `compiled` looks in one function for which torch writes kernels, in training alone: the first
    step takes a minute longer, which no single answer is worth.
    """

    def __init__(
        self, config: R2Config, batch: Batch, extents: Extents, compiled: Compiled | None = None
    ) -> None:
        self.tokens, self.affine = batch.videos, batch.affine
        self.competing_words = extents.competing_words
        self.compiled = compiled
        self.owners = None if len(batch.videos) == len(batch) else batch.video_of_query
        self.real: Tensor | None = None
        self.times: Tensor | None = None
        num_frames = batch.videos.shape[2]
        if not extents.isolated and batch.affine is not None:  # a code of 0 is not the number 0
            self.real = mask_of(batch.video_num_frames, num_frames).float()
        if config.temporal_features:
            lengths = batch.video_num_frames
            if not extents.isolated:
                lengths = torch.full_like(lengths, num_frames)
            self.times = time_features(lengths, num_frames)

    @staticmethod
    def bytes_needed(config: R2Config, batch: Batch) -> int:
        """Return the memory that a step on a batch takes beside weights and batch, at the least."""
        device = batch.videos.device.type
        mixed = torch.is_autocast_enabled(device)
        value = torch.get_autocast_dtype(device).itemsize if mixed else 4
        vision, width, drawn = config.vision_width, config.width, int(config.dropout > 0)
        _, num_layers, num_frames, num_tokens, _ = batch.videos.shape
        num_words = batch.query.shape[2]
        of_token = value * ((1 + drawn) * vision + (2 + drawn) * width + num_words)
        if mixed:  # the norm and the softmax keep float32
            of_token += 4 * (width + num_words)
        of_frame = 3 * value * num_words * width
        kept = len(batch) * num_frames * (num_tokens * of_token + of_frame)
        passing = len(batch) * num_frames * num_tokens * (8 + value) * vision
        return passing + kept * (num_layers if torch.is_grad_enabled() else 1)

    def __call__(
        self,
        weights: LayerWeights,
        words: Float[Tensor, "layers batch words hidden"],
        layers: slice = slice(None),
    ) -> tuple[LayerFrames, LayerFrames]:
        words, probes, competing_words = question_of(weights.pooling, words, self.competing_words)
        mapping = weights.video_map.weights()
        tokens = self.tokens[:, layers, :, weights.pooling.tokens]
        device = words.device.type
        mixed = torch.is_autocast_enabled(device)
        how = How(
            dtype=torch.get_autocast_dtype(device) if mixed else mapping.input_weight.dtype,
            dropout=weights.video_map.dropout.p if weights.training else 0.0,
            apart=torch.is_grad_enabled(),
            mapped_first=maps_first(words.shape[2], tokens.shape[3]),
        )
        if not how.mapped_first:
            probes = probes @ mapping.output_weight
        words = words.masked_fill(~competing_words[..., None], -math.inf)
        affines = None if self.affine is None else self.affine[:, :, layers]
        training = weights.training and torch.is_grad_enabled()
        at_layer = look_at_layer if self.compiled is None or not training else self.compiled
        looks = [
            at_layer(
                SeenLayer(
                    tokens[:, layer],
                    None if affines is None else affines[:, :, layer],
                    self.real,
                    self.times,
                    self.owners,
                ),
                words[layer],
                probes[layer],
                mapping,
                how,
            )
            for layer in range(len(words))
        ]
        cls_tokens, pooled = zip(*looks, strict=True)
        return torch.stack(cls_tokens), torch.stack(pooled)


def look_at_layer(
    seen: SeenLayer, words: Tensor, probes: Tensor, weights: MapWeights, how: How
) -> tuple[Tensor, ...]:
    """Return a layer's mapped CLS tokens and what the words pooled, [batch, frames, width] each.

    Words that do not compete are -inf.
    """
    patches = _map(seen, weights, how)
    head = weights.output_weight, weights.output_bias
    if how.mapped_first:
        patches = F.linear(patches, *head)
    if seen.owners is not None and not how.apart:
        patches = patches[seen.owners]
    batch, frames, tokens, width = patches.shape
    scores = patches.flatten(1, 2) @ probes.transpose(1, 2)
    attention = scores.view(batch * frames, tokens, -1).softmax(dim=1)
    found = attention.transpose(1, 2) @ patches.view(batch * frames, tokens, width)
    found = found.view(batch, frames, -1, width)
    cls_tokens = patches[:, :, 0]
    if not how.mapped_first:
        found, cls_tokens = F.linear(found, *head), F.linear(cls_tokens, *head)
    return cls_tokens, (found + words[:, None]).amax(dim=2)


def _map(seen: SeenLayer, weights: MapWeights, how: How) -> Tensor:
    """Return the patches as they enter the map's second linear layer."""
    shape = seen.tokens.shape
    parts = [part.to(how.dtype) for part in _normalised(seen) if part is not None]
    if seen.owners is not None and how.apart:
        shape = (len(seen.owners), *shape[1:])
        parts = [part[seen.owners] for part in parts]
    weights = weights.scaled(how.dropout)
    of_values = weights.input_weight * weights.input_gain
    of_kept = weights.input_weight * weights.input_shift
    hidden = weights.input_bias
    if not how.dropout:
        hidden = hidden + of_kept.sum(dim=1)
    begin = 0
    for values in parts:
        columns = slice(begin, begin + values.shape[-1])
        begin = columns.stop
        values = values.flatten(0, 2)
        if how.dropout:
            kept = torch.empty_like(values).bernoulli_(1 - how.dropout)
            values = values * kept
            hidden = torch.addmm(hidden, kept, of_kept[:, columns].T)
        hidden = torch.addmm(hidden, values, of_values[:, columns].T)
    gain, shift = weights.output_gain, weights.output_shift
    patches = F.layer_norm(F.relu(hidden), gain.shape, gain, shift, EPSILON).to(how.dtype)
    if how.dropout:
        patches = patches * torch.empty_like(patches).bernoulli_(1 - how.dropout)
    return patches.unflatten(0, shape[:3])


def _normalised(seen: SeenLayer) -> tuple[Tensor, Tensor | None]:
    """Return a layer's features and times, normalised together, with no gain and shift yet."""
    features = seen.tokens.float()
    if seen.affine is not None:
        scale, offset = seen.affine[:, :, None, None].unbind(1)
        features = torch.addcmul(offset, features, scale)
    if seen.real is not None:
        features = features * seen.real[..., None, None]
    variance, mean = torch.var_mean(features, dim=-1, correction=0, keepdim=True)
    if seen.times is None:
        scale = (variance + EPSILON).rsqrt()
        return torch.addcmul(-mean * scale, features, scale), None
    width, times = features.shape[-1], seen.times[:, :, None]
    num_values = width + times.shape[-1]
    own, mean = mean, (width * mean + times.sum(dim=-1, keepdim=True)) / num_values
    squares = width * (variance + (own - mean).square())
    squares = squares + (times - mean).square().sum(dim=-1, keepdim=True)
    scale = (squares / num_values + EPSILON).rsqrt()
    return torch.addcmul(-mean * scale, features, scale), (times - mean) * scale
