"""The R² Block (R²-Tuning, section 3), step by step.

In each of its layers a frozen CLIP describes a frame by its patches and a CLS token, and a sentence
by its words. One small block visits the last K layers, from the last of them to the first, with the
same weights at each. A visit has two steps.

*Query-modulated spatial pooling.* Each word attends to the patches of a frame, and the frame keeps
the strongest response in each channel. With v the mapped patches, v_cls the mapped CLS token, q a
mapped word and C the width,

    a = softmax over patches of (Wq q + bq) · (Wk v + bk) / √C
    o = maximum over words of (Σ a v + q)
    z = v_cls + tanh(pooled_gate) o

*Recurrent temporal refinement.* The frames z are blended with the frames h' of the visit before,
which was one layer later in CLIP. A transformer decoder layer R refines the result over time, with
the words as its memory:

    g = sigmoid(recurrent_gate)
    h = R(g z + (1 - g) h', q)        at the last layer, which has no h', R(z, q)

Both gates start at 0: at first the pooled patches add nothing, and z and h' count half each. The
block's result is the h of the first of the K layers, to which all later ones have contributed.

Where the paper's formulas read differently we follow the official code, whose weights must load:
the mapped word is added to what it pooled before the maximum is taken, patches are pooled as they
are, without a value projection, and saliency is measured against the words of the first layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from r2t.train.model.config import R2Config
from r2t.train.model.feature_map import FeatureMap
from r2t.train.model.padding import Extents
from r2t.train.model.pooling import make_pooling
from r2t.train.model.refinement import TemporalRefinement, position_code

LayerFrames = Float[Tensor, "layers batch frames hidden"]


@dataclass(frozen=True, eq=False)
class BlockOutput:
    """What the R² Block hands on; layers ascend.

    `frames` are the refined frames, `words` the mapped query that saliency is measured against.
    `layer_frames` (mapped CLS tokens) and `layer_words` are for the calibration losses.
    """

    frames: Float[Tensor, "batch frames hidden"]
    words: Float[Tensor, "batch words hidden"]
    layer_frames: LayerFrames
    layer_words: Float[Tensor, "layers batch words hidden"]


class LayerWeights(nn.Module):
    """What a visit uses: a map for each kind of feature, the pooling and the refinement."""

    def __init__(self, config: R2Config) -> None:
        super().__init__()
        video_width = config.vision_width + (2 if config.temporal_features else 0)
        self.video_map = FeatureMap(video_width, config.width, config.dropout)
        self.query_map = FeatureMap(config.text_width, config.width, config.dropout)
        self.pooling = make_pooling(config.pooling, config.width)
        self.refinement = TemporalRefinement(config.width, config.num_heads, config.drop_path)

    def of_layer(self, layer: int) -> LayerWeights:
        """Return the weights of a layer; here all layers share them."""
        return self


@runtime_checkable
class Look(Protocol):
    """Spatial pooling of the videos that a batch of queries asks about.

    `looks` says which implementations there are and where each is used.
    """

    def __call__(
        self,
        weights: LayerWeights,
        words: Float[Tensor, "layers batch words hidden"],
        layers: slice = slice(None),
    ) -> tuple[LayerFrames, LayerFrames]:
        """Return v_cls and o at these layers, given their mapped words."""
        ...


class R2Block(LayerWeights):
    """The recurrent block of the method; all layers share its weights."""

    def __init__(self, config: R2Config) -> None:
        super().__init__(config)
        self.width = config.width
        self.pooled_gate = nn.Parameter(torch.zeros(config.num_layers))
        self.recurrent_gate = nn.Parameter(torch.zeros(config.num_layers - 1))

    def forward(
        self,
        look: Look,
        query: Float[Tensor, "batch layers words text_width"],
        extents: Extents,
    ) -> BlockOutput:
        """Pool at all layers, which needs no h, then refine from the last to the first."""
        words = self.query_map(query.float()).transpose(0, 1)  # q
        cls_tokens, pooled = look(self, words)  # v_cls and o
        positions = position_code(extents.time_lengths, extents.frame_mask.shape[1], self.width)
        layers = list(zip(cls_tokens, pooled, words, strict=True))
        refined: Tensor | None = None  # h
        for k in reversed(range(len(layers))):
            cls_token, found, asked = layers[k]
            frames = cls_token + torch.tanh(self.pooled_gate[k]) * found  # z
            if refined is not None:
                gate = torch.sigmoid(self.recurrent_gate[k])  # g
                frames = gate * frames + (1 - gate) * refined
            refined = self.refinement(
                frames, asked, positions, extents.frame_mask, extents.word_mask
            )
        assert refined is not None  # a model has at least one layer
        return BlockOutput(refined, words[0], cls_tokens, words)
