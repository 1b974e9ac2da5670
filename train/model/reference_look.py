"""The reference: spatial pooling as the formulas read, for tests and comparisons."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from r2t.train.data import Batch
from r2t.train.model.config import R2Config
from r2t.train.model.feature_map import time_features
from r2t.train.model.padding import Extents
from r2t.train.model.r2_block import LayerFrames, LayerWeights


class ReferenceLook:
    """Map every patch of every query's video and pool it, layer after layer, in autograd.

    It takes more time and memory than the other looks, and they have to agree with it.
    """

    def __init__(self, config: R2Config, batch: Batch, extents: Extents) -> None:
        self.video = batch.video
        self.competing_words = extents.competing_words
        self.times: Tensor | None = None
        if config.temporal_features:
            self.times = time_features(extents.time_lengths, self.video.shape[2])

    def __call__(
        self,
        weights: LayerWeights,
        words: Float[Tensor, "layers batch words hidden"],
        layers: slice = slice(None),
    ) -> tuple[LayerFrames, LayerFrames]:
        seen = self.video[:, layers, :, weights.pooling.tokens].unbind(1)
        looks = [
            self.at_layer(weights, self._features(tokens), of_layer, self.competing_words)
            for tokens, of_layer in zip(seen, words, strict=True)
        ]
        cls_tokens, pooled = zip(*looks, strict=True)
        return torch.stack(cls_tokens), torch.stack(pooled)

    def at_layer(
        self,
        weights: LayerWeights,
        features: Float[Tensor, "batch frames tokens in_width"],
        words: Float[Tensor, "batch words hidden"],
        competing_words: Bool[Tensor, "batch words"],
    ) -> tuple[Float[Tensor, "batch frames hidden"], Float[Tensor, "batch frames hidden"]]:
        """Return a layer's mapped CLS tokens, and what the words pooled."""
        patches = weights.video_map(features)
        return patches[:, :, 0], weights.pooling(patches, words, competing_words)

    def _features(self, tokens: Tensor) -> Tensor:
        """Append a frame's times, if the model uses them, to each of its tokens."""
        if self.times is None:
            return tokens.float()
        times = self.times[:, :, None].expand(-1, -1, tokens.shape[2], -1)
        return torch.cat([tokens.float(), times], dim=-1)
