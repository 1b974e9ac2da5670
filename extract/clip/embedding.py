"""CLIP's final embeddings: what its own training compared, of a frame's CLS and a sentence's end.

Hidden states are kept without the final LayerNorms and projections, which are applied here: to the
states of a forward pass while they are at hand, or to those that a store kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float16, Float32
from torch import Tensor, nn
from torch.nn import functional as F

from r2t.extract.clip.towers import Towers
from r2t.store.schema import EmbeddingSpec


@dataclass(frozen=True, eq=False)
class EncodedFrames:
    """What CLIP makes of some frames; `embedding` is None where the model has none of its own."""

    tokens: Float16[np.ndarray, "layers frames tokens width"]
    embedding: Float16[np.ndarray, "frames embedding_width"] | None

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return self.tokens.shape[1]

    def __getitem__(self, frames: slice) -> EncodedFrames:
        """Return some of the frames."""
        embedding = None if self.embedding is None else self.embedding[frames]
        return EncodedFrames(self.tokens[:, frames], embedding)

    @classmethod
    def joined(cls, parts: list[EncodedFrames]) -> EncodedFrames:
        """Join frames that follow one another."""
        if len(parts) == 1:
            return parts[0]
        embeddings = [part.embedding for part in parts if part.embedding is not None]
        return cls(
            np.concatenate([part.tokens for part in parts], axis=1),
            np.concatenate(embeddings) if embeddings else None,
        )


@dataclass(frozen=True, eq=False)
class EmbeddingHead:
    """The LayerNorm and the projection that end a tower, in float32 whatever it computes in."""

    weight: Float32[Tensor, " width"]
    bias: Float32[Tensor, " width"]
    epsilon: float
    projection: Float32[Tensor, "width embedding_width"]
    projection_bias: Float32[Tensor, " embedding_width"] | None

    @classmethod
    def of(cls, norm: nn.LayerNorm, projection: Tensor | nn.Linear) -> EmbeddingHead:
        """Take the head of a tower."""
        linear = isinstance(projection, nn.Linear)
        matrix = projection.weight.T if linear else projection
        bias = projection.bias if linear else None
        return cls(
            norm.weight.detach().float(),
            norm.bias.detach().float(),
            norm.eps,
            matrix.detach().float(),
            None if bias is None else bias.detach().float(),
        )

    def __call__(
        self, states: Float[Tensor, "*rows width"]
    ) -> Float32[Tensor, "*rows embedding_width"]:
        """Return the embeddings of states of a tower's last layer, of unit length."""
        # Autocast is off even where the caller's tower computes in half precision.
        with torch.autocast(states.device.type, enabled=False):
            normal = F.layer_norm(
                states.float(), self.weight.shape, self.weight, self.bias, self.epsilon
            )
            projected = normal @ self.projection
            if self.projection_bias is not None:
                projected = projected + self.projection_bias
            return F.normalize(projected, dim=-1)


@dataclass(frozen=True, eq=False)
class EmbeddingHeads:
    """The heads of both towers, which end in one space."""

    image: EmbeddingHead
    text: EmbeddingHead

    @property
    def spec(self) -> EmbeddingSpec:
        """What a store's header says of the embeddings."""
        return EmbeddingSpec(width=self.image.projection.shape[1])


def find_heads(towers: Towers) -> EmbeddingHeads | str:
    """Return the heads, or why a frame's CLS and a sentence's end have no embedding of CLIP's."""
    visual, text = towers.visual, towers.text
    if towers.timm:
        return "its vision tower is one of timm's"
    if visual.attn_pool is not None or visual.pool_type != "tok":
        return "its vision tower pools all tokens"
    pooling = getattr(text, "text_pool_type", None) or getattr(text, "pool_type", None)
    if getattr(text, "cls_emb", None) is not None or pooling not in ("argmax", "eos"):
        return "its text tower does not read a sentence off its end token"
    heads = [(visual.ln_post, visual.proj), (text.ln_final, text.text_projection)]
    if any(projection is None for _, projection in heads):
        return "one of its towers has no projection"
    if not all(_is_plain(norm) for norm, _ in heads):
        return "a tower's final normalisation is no LayerNorm"
    image, sentence = (EmbeddingHead.of(*head) for head in heads)
    if image.projection.shape[1] != sentence.projection.shape[1]:
        return "its towers end in spaces of different widths"
    return EmbeddingHeads(image, sentence)


def stored_form(embedding: Float32[Tensor, "*rows width"]) -> Float16[np.ndarray, "*rows width"]:
    """Return embeddings as stores keep them."""
    return embedding.half().cpu().numpy()


def _is_plain(norm: Any) -> bool:
    return isinstance(norm, nn.LayerNorm) and norm.weight is not None and norm.bias is not None
