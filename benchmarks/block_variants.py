"""Ways to look at patches, from the official order of operations to ours, one rewrite at a time.

Each is the one before it with one change; all compute the same. They are slower than the look that
`r2t.train` takes, and exist to be compared with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from r2t.train.data.batch import Batch, Labels, Sample, collate
from r2t.train.data.prior import NUM_PRIORS
from r2t.train.model.config import R2Config
from r2t.train.model.feature_map import FeatureMap
from r2t.train.model.looks import MakeLook
from r2t.train.model.model import R2Model
from r2t.train.model.pooling import QueryPooling
from r2t.train.model.questions import probes
from r2t.train.model.r2_block import LayerWeights
from r2t.train.model.reference_look import ReferenceLook
from r2t.train.model.tiled.dropout_bits import draw_kept, keep_, spread
from r2t.train.model.tiled_look import TiledLook

FRAMES, TOKENS, LAYERS, VISION, TEXT = 75, 50, 4, 768, 512  # QVHighlights, ViT-B/32


def random_batch(size: int, seed: int = 0) -> Batch:
    """Make labelled features of QVHighlights' sizes; queries have 12 to 20 words."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    samples: list[Sample] = []
    for index in range(size):
        start, end = np.sort(random.choice(FRAMES, 2, replace=False))
        saliency = np.zeros(FRAMES, dtype=np.float32)
        saliency[start:end] = random.random(end - start)
        samples.append(
            Sample(
                query_id=str(index),
                video=torch.randn(LAYERS, FRAMES, TOKENS, VISION).half(),
                query=torch.randn(LAYERS, int(random.integers(12, 21)), TEXT).half(),
                duration_seconds=2.0 * FRAMES,
                frame_rate_fps=0.5,
                labels=Labels(np.array([[start, end]], dtype=np.float32), saliency, int(start)),
            )
        )
    return replace(collate(samples), prior=torch.randn(size, FRAMES, NUM_PRIORS))


class OfficialOrder(ReferenceLook):
    """The official order: words are projected anew for every frame, patches for every layer."""

    def at_layer(
        self, weights: LayerWeights, features: Tensor, words: Tensor, competing_words: Tensor
    ) -> tuple[Tensor, Tensor]:
        pooling = query_pooling(weights)
        patches = weights.video_map(features)
        repeated = words.repeat_interleave(patches.shape[1], dim=0)
        flat = patches.flatten(0, 1)
        scores = pooling.word_query(repeated) @ pooling.patch_key(flat).transpose(1, 2)
        found = (scores / math.sqrt(pooling.width)).softmax(dim=-1) @ flat + repeated
        found = found.unflatten(0, patches.shape[:2])
        return patches[:, :, 0], maximum(found, competing_words)


class FoldedKey(ReferenceLook):
    """The projection of the patches moves to the words."""

    def at_layer(
        self, weights: LayerWeights, features: Tensor, words: Tensor, competing_words: Tensor
    ) -> tuple[Tensor, Tensor]:
        patches = weights.video_map(features)
        asked = probes(query_pooling(weights), words)
        scores = torch.einsum("bwc,btpc->btwp", asked, patches)
        found = scores.softmax(dim=-1) @ patches + words[:, None]
        return patches[:, :, 0], maximum(found, competing_words)


class PooledFirst(ReferenceLook):
    """The map's second linear layer meets what words pooled instead of every patch."""

    def at_layer(
        self, weights: LayerWeights, features: Tensor, words: Tensor, competing_words: Tensor
    ) -> tuple[Tensor, Tensor]:
        mapping = weights.video_map
        hidden = self.drop(mapping.input_norm(features), mapping)
        hidden = F.relu(mapping.input_linear(hidden))
        patches = self.drop(mapping.output_norm(hidden), mapping)
        asked = probes(query_pooling(weights), words) @ mapping.output_linear.weight
        attention = torch.einsum("bwc,btpc->btwp", asked, patches).softmax(dim=-1)
        found = mapping.output_linear(attention @ patches) + words[:, None]
        return mapping.output_linear(patches[:, :, 0]), maximum(found, competing_words)

    def drop(self, values: Tensor, mapping: FeatureMap) -> Tensor:
        """Apply the dropout of a map."""
        return mapping.dropout(values)


class DropoutBits(PooledFirst):
    """Dropout draws and remembers bits."""

    def drop(self, values: Tensor, mapping: FeatureMap) -> Tensor:
        rate = mapping.dropout.p if mapping.training else 0.0
        return _KeepBits.apply(values.contiguous(), rate) if rate else values


def query_pooling(weights: LayerWeights) -> QueryPooling:
    """Return the pooling of the method, which alone is rewritten here."""
    assert isinstance(weights.pooling, QueryPooling)
    return weights.pooling


def maximum(found: Tensor, competing_words: Tensor) -> Tensor:
    """Return the maximum over words of what each found."""
    return found.masked_fill(~competing_words[:, None, :, None], -math.inf).amax(dim=2)


class _KeepBits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rate: float) -> Tensor:
        ctx.rate, ctx.kept = rate, draw_kept(values.numel(), rate, torch.default_generator)
        return keep_(values / (1 - rate), spread(ctx.kept, values))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        gradient = grad_outputs[0].contiguous()
        return keep_(gradient / (1 - ctx.rate), spread(ctx.kept, gradient)), None


@dataclass(frozen=True)
class Variant:
    """A way to look at patches, and how the model is run with it."""

    make_look: MakeLook
    autocast: bool = False
    compiled: bool = False
    prior: bool = False


VARIANTS = {
    "official order": Variant(OfficialOrder),
    "reference": Variant(ReferenceLook),
    "+ key folded": Variant(FoldedKey),
    "+ pooled first": Variant(PooledFirst),
    "+ dropout bits": Variant(DropoutBits),
    "+ weight algebra": Variant(partial(TiledLook, frames_in_tile=10**9)),
    "ours (+ tiles)": Variant(TiledLook),
    "ours, with the prior": Variant(TiledLook, prior=True),
    "ours, bf16": Variant(TiledLook, autocast=True),
    "reference, bf16": Variant(ReferenceLook, autocast=True),
    "reference, compiled": Variant(ReferenceLook, compiled=True),
}
OURS, REFERENCE = "ours (+ tiles)", "reference"


class Contender:
    """A variant with its own weights; equal seeds give equal weights."""

    def __init__(self, name: str, *, dropout: float, training: bool = True) -> None:
        self.variant = VARIANTS[name]
        torch.manual_seed(0)
        config = R2Config(
            dropout=dropout, drop_path=0.1 if dropout else 0.0, prior=self.variant.prior
        )
        model = R2Model(config, self.variant.make_look)
        open_gate(model)
        if model.prior_map is not None:  # so that it computes what the others do
            for parameter in model.prior_map.parameters():
                torch.nn.init.zeros_(parameter)
        self.model = model.train(training)
        self.run = torch.compile(model) if self.variant.compiled else model

    def predict(self, batch: Batch) -> Any:
        """Run the model in the variant's setting."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.variant.autocast):
            return self.run(batch)


def open_gate(model: R2Model) -> None:
    """Let words add what they pool: closed, the gate would leave half of the block out."""
    assert model.block.pooled_gate is not None
    with torch.no_grad():
        model.block.pooled_gate.fill_(0.5)
