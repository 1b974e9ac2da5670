"""The R² Block on its way from the official order of operations to ours, one rewrite at a time.

Each class is the one before it with one change; all compute the same. They are slower than the
block in `r2t.train` and exist to be compared with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from r2t.train.data.batch import Batch, Labels, Sample, collate
from r2t.train.model.config import R2Config
from r2t.train.model.model import R2Model
from r2t.train.model.padding import Extents
from r2t.train.model.pooling import SpatialPooling
from r2t.train.model.r2_block import R2Block, _Look
from r2t.train.model.tiled import video_tiles
from r2t.train.model.tiled.dropout_bits import draw_kept, keep_, spread

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
    return collate(samples)


class RepeatedQuery(SpatialPooling):
    """The official order: words are projected anew for every frame, patches for every layer."""

    def forward(self, patches: Tensor, words: Tensor, competing_words: Tensor) -> Tensor:
        repeated = words.repeat_interleave(patches.shape[1], dim=0)
        flat = patches.flatten(0, 1)
        scores = self.word_query(repeated) @ self.patch_key(flat).transpose(1, 2)
        found = (scores / math.sqrt(self.width)).softmax(dim=-1) @ flat + repeated
        found = found.unflatten(0, patches.shape[:2])
        return found.masked_fill(~competing_words[:, None, :, None], -math.inf).amax(dim=2)


class FoldedKey(SpatialPooling):
    """The projection of the patches moves to the words."""

    def forward(self, patches: Tensor, words: Tensor, competing_words: Tensor) -> Tensor:
        scores = torch.einsum("bwc,btpc->btwp", self.probes(words), patches)
        found = scores.softmax(dim=-1) @ patches + words[:, None]
        return found.masked_fill(~competing_words[:, None, :, None], -math.inf).amax(dim=2)


class PooledFirst(R2Block):
    """The map's second linear layer meets what words pooled instead of every patch."""

    def _look_plainly(self, batch: Batch, extents: Extents) -> list[_Look]:
        times = self.times(extents.time_lengths, batch.video.shape[2])
        assert times is not None
        return [
            _Look(
                *self.look(
                    batch.video[:, layer], times, batch.query[:, layer], extents.competing_words
                )
            )
            for layer in range(batch.video.shape[1])
        ]

    def look(
        self, tokens: Tensor, times: Tensor, query: Tensor, competing_words: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return a layer's mapped CLS tokens and words, and what the words found."""
        assert isinstance(self.pooling, SpatialPooling)
        mapping = self.video_map
        expanded = times[:, :, None].expand(-1, -1, tokens.shape[2], -1)
        hidden = mapping.input_norm(torch.cat([tokens.float(), expanded], dim=-1))
        hidden = F.relu(mapping.input_linear(mapping.dropout(hidden)))
        patches = mapping.dropout(mapping.output_norm(hidden))
        words = self.query_map(query.float())
        probes = self.pooling.probes(words) @ mapping.output_linear.weight
        attention = torch.einsum("bwc,btpc->btwp", probes, patches).softmax(dim=-1)
        found = mapping.output_linear(attention @ patches) + words[:, None]
        outside = ~competing_words[:, None, :, None]
        pooled = found.masked_fill(outside, -math.inf).amax(dim=2)
        return mapping.output_linear(patches[:, :, 0]), words, pooled


class _KeepBits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rate: float) -> Tensor:
        ctx.rate, ctx.kept = rate, draw_kept(values.numel(), rate, torch.default_generator)
        return keep_(values / (1 - rate), spread(ctx.kept, values))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        gradient = grad_outputs[0].contiguous()
        return keep_(gradient / (1 - ctx.rate), spread(ctx.kept, gradient)), None


class BitDropout(nn.Dropout):
    """Dropout that draws and remembers bits."""

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and self.p):
            return input
        return _KeepBits.apply(input.contiguous(), self.p)


def _with_pooling(kind: type[SpatialPooling]) -> Callable[[R2Model], None]:
    def change(model: R2Model) -> None:
        model.block.straightforward = True
        model.block.pooling.__class__ = kind

    return change


def _plain(model: R2Model) -> None:
    model.block.straightforward = True


def _pooled_first(model: R2Model) -> None:
    _plain(model)
    model.block.__class__ = PooledFirst


def _bits(model: R2Model) -> None:
    _pooled_first(model)
    model.block.video_map.dropout = BitDropout(model.config.dropout)


def _ours(model: R2Model) -> None:
    assert not model.block.straightforward


@dataclass(frozen=True)
class Variant:
    """A way to compute the block; `bytes_in_tile` of 0 leaves the default."""

    change: Callable[[R2Model], None]
    bytes_in_tile: int = 0
    autocast: bool = False
    compiled: bool = False


VARIANTS = {
    "official order": Variant(_with_pooling(RepeatedQuery)),
    "straightforward": Variant(_plain),
    "+ key folded": Variant(_with_pooling(FoldedKey)),
    "+ pooled first": Variant(_pooled_first),
    "+ dropout bits": Variant(_bits),
    "+ weight algebra": Variant(_ours, bytes_in_tile=10**12),
    "ours (+ tiles)": Variant(_ours),
    "ours, bf16": Variant(_ours, autocast=True),
    "straightforward, bf16": Variant(_plain, autocast=True),
    "straightforward, compiled": Variant(_plain, compiled=True),
}
OURS, PLAIN = "ours (+ tiles)", "straightforward"


class Contender:
    """A variant with its own weights; equal seeds give equal weights."""

    def __init__(self, name: str, *, dropout: float, training: bool = True) -> None:
        self.variant = VARIANTS[name]
        torch.manual_seed(0)
        model = R2Model(R2Config(dropout=dropout, drop_path=0.1 if dropout else 0.0))
        assert model.block.pooled_gate is not None
        with torch.no_grad():
            model.block.pooled_gate.fill_(0.5)  # closed, it would leave half of the block out
        self.model = model.train(training)
        self.variant.change(model)
        self.run = torch.compile(model) if self.variant.compiled else model

    def predict(self, batch: Batch) -> Any:
        """Run the model in the variant's setting."""
        default = video_tiles.BYTES_IN_TILE
        video_tiles.BYTES_IN_TILE = self.variant.bytes_in_tile or default
        try:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.variant.autocast):
                return self.run(batch)
        finally:
            video_tiles.BYTES_IN_TILE = default
