"""The R² Block with parts changed or left out, for ablations.

The method is in `r2_block`; here are the switches of `R2Config` that depart from it. With none of
them this block computes what that one does.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from r2t.train.model.config import R2Config
from r2t.train.model.padding import Extents
from r2t.train.model.r2_block import BlockOutput, LayerWeights, Look, R2Block
from r2t.train.model.refinement import position_code


class AblatedBlock(LayerWeights):
    """The block in another direction, with another pooling, or with weights for each layer."""

    def __init__(self, config: R2Config) -> None:
        super().__init__(config)
        self.config = config
        num_layers = config.num_layers
        num_others = 0 if config.shared_weights else num_layers - 1
        self.others = nn.ModuleList(LayerWeights(config) for _ in range(num_others))
        self.pooled_gate = self.recurrent_gate = self.layer_logits = None
        if config.pooling != "cls":
            self.pooled_gate = nn.Parameter(torch.zeros(num_layers))
        if config.direction != "parallel":
            self.recurrent_gate = nn.Parameter(torch.zeros(num_layers - 1))
        if config.layer_weighting:
            self.layer_logits = nn.Parameter(torch.zeros(num_layers))  # softmax: all alike

    def of_layer(self, layer: int) -> LayerWeights:
        if self.config.shared_weights or not layer:
            return self
        return cast("LayerWeights", self.others[layer - 1])

    def forward(
        self,
        look: Look,
        query: Float[Tensor, "batch layers words text_width"],
        extents: Extents,
    ) -> BlockOutput:
        """Look at all layers, then refine one after the other in the direction of the ablation."""
        words, cls_tokens, pooled = self._look(look, query)
        positions = position_code(
            extents.time_lengths, extents.frame_mask.shape[1], self.config.width
        )
        order = list(range(len(words)))
        if self.config.direction == "backward":
            order.reverse()
        refined: list[Tensor] = []
        for layer in order:
            frames = cls_tokens[layer]
            if self.pooled_gate is not None:
                frames = frames + torch.tanh(self.pooled_gate[layer]) * pooled[layer]
            if refined and self.recurrent_gate is not None:
                lower = layer if self.config.direction == "backward" else layer - 1
                gate = torch.sigmoid(self.recurrent_gate[lower])
                frames = gate * frames + (1 - gate) * refined[-1]
            refined.append(
                self.of_layer(layer).refinement(
                    frames, words[layer], positions, extents.frame_mask, extents.word_mask
                )
            )
        return BlockOutput(
            frames=self._read(refined, order),
            words=self._read([words[layer] for layer in order], order),
            layer_frames=torch.stack(cls_tokens),
            layer_words=torch.stack(words),
        )

    def _look(self, look: Look, query: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Return each layer's mapped words and CLS tokens, and what the words pooled.

        Layers that share weights are looked at together.
        """
        num_layers = query.shape[1]
        groups = [slice(None)]
        if not self.config.shared_weights:
            groups = [slice(layer, layer + 1) for layer in range(num_layers)]
        words: list[Tensor] = []
        cls_tokens: list[Tensor] = []
        pooled: list[Tensor] = []
        for layers in groups:
            weights = self.of_layer(layers.start or 0)
            asked = weights.query_map(query[:, layers].float()).transpose(0, 1)
            of_layers = look(weights, asked, layers)
            for known, found in zip((words, cls_tokens, pooled), (asked, *of_layers), strict=True):
                known.extend(found)
        return words, cls_tokens, pooled

    def _read(self, states: list[Tensor], order: list[int]) -> Tensor:
        """Return what is handed on of the states after each step."""
        if self.layer_logits is not None:
            weights = self.layer_logits.softmax(dim=0)[order]
            return torch.einsum("l,l...->...", weights, torch.stack(states))
        if self.config.direction == "parallel":
            return torch.stack(states).mean(dim=0)
        return states[-1]


def make_block(config: R2Config) -> R2Block | AblatedBlock:
    """Return the method's block, or, where a switch departs from it, the one for ablations."""
    return AblatedBlock(config) if config.ablated else R2Block(config)
