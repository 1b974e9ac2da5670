"""CLIP's own answer to "how well does this frame fit this sentence", from stored features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float16, Float32
from torch import Tensor

from r2t.extract.clip.clip import FrozenClip
from r2t.extract.clip.embedding import EmbeddingHeads, stored_form
from r2t.store.errors import ConfigError
from r2t.store.features import QueryFeatures, VideoFeatures


@torch.inference_mode()
def frame_similarity(
    clip: FrozenClip, video: VideoFeatures, queries: Sequence[QueryFeatures]
) -> Float32[np.ndarray, "queries frames tokens"]:
    """Return the cosine between every stored token and each sentence, CLS first.

    It is that of CLS which CLIP was trained for, and it is taken from the stored embeddings where
    there are any. For all else the final LayerNorms and projections that extraction leaves out are
    applied here, so the features must hold the last layer of both towers, made by this very model.

    Raises:
        ConfigError: if they do not, or the model has no embeddings.
    """
    heads = _require_heads(clip)
    frames = heads.image(_on(clip, video.decoded()[-1]))
    if video.embedding is not None:
        frames[:, 0] = _on(clip, video.embedding).float()
    embeddings = [
        embedding_of_tokens(clip, query) if query.embedding is None else query.embedding
        for query in queries
    ]
    sentences = _on(clip, np.stack(embeddings)).float()
    return (frames @ sentences.T).movedim(-1, 0).cpu().numpy()


@torch.inference_mode()
def embedding_of_tokens(
    clip: FrozenClip, features: VideoFeatures | QueryFeatures
) -> Float16[np.ndarray, "*frames embedding_width"]:
    """Return the embeddings of a video's frames, or that of a sentence, from its stored tokens.

    They differ from those of an extraction by the rounding of what was stored. Of a video its last
    layer is enough.

    Raises:
        ConfigError: if the last layer of its tower is not stored, or the model has no embeddings.
    """
    heads = _require_heads(clip)
    if isinstance(features, VideoFeatures):
        return stored_form(heads.image(_on(clip, features.decoded()[-1, :, 0])))
    return stored_form(heads.text(_on(clip, features.tokens[-1, -1])))


def why_no_token_embeddings(clip: FrozenClip) -> str | None:
    """Say why the tokens that a CLIP gives have no embeddings; None if they have."""
    if not isinstance(clip.heads, EmbeddingHeads):
        return f"{clip.model} has no embeddings: {clip.heads}"
    depths = (clip.towers.vision_depth, clip.towers.text_depth)
    stored = (clip.vision_layers[-1], clip.text_layers[-1])
    if stored != depths:
        return (
            f"{clip.model}: embeddings are made of the last layers {depths}, and the features hold "
            f"layers up to {stored}"
        )
    return None


def _require_heads(clip: FrozenClip) -> EmbeddingHeads:
    if reason := why_no_token_embeddings(clip):
        raise ConfigError(reason)
    assert isinstance(clip.heads, EmbeddingHeads)
    return clip.heads


def _on(clip: FrozenClip, values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.require(values, requirements=("C", "W"))).to(clip.device)
