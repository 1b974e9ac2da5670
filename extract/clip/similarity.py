"""CLIP's own answer to "how well does this frame fit this sentence", from stored features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F

from r2t.extract.clip.clip import FrozenClip
from r2t.store.errors import ConfigError
from r2t.store.schema import QueryFeatures, VideoFeatures


@torch.inference_mode()
def frame_similarity(
    clip: FrozenClip, video: VideoFeatures, queries: Sequence[QueryFeatures]
) -> Float32[np.ndarray, "queries frames tokens"]:
    """Return the cosine between every stored token and each sentence, CLS first.

    It is that of CLS which CLIP was trained for. The final LayerNorms and projections that
    extraction leaves out are applied here, so the store must hold the last layer of both towers,
    made by this very model.
    """
    towers = clip.towers
    depths = (towers.vision_depth, towers.text_depth)
    if (clip.vision_layers[-1], clip.text_layers[-1]) != depths or towers.timm:
        raise ConfigError(
            f"{clip.model}: similarity needs the last layers {depths} of an open_clip ViT, not "
            f"layers {(clip.vision_layers[-1], clip.text_layers[-1])}"
        )
    last = np.ascontiguousarray(video.decoded()[-1], dtype=np.float32)
    frames = towers.visual.ln_post(torch.from_numpy(last).to(clip.device)) @ towers.visual.proj
    ends = np.stack([query.tokens[-1, -1] for query in queries]).astype(np.float32)
    ended = towers.text.ln_final(torch.from_numpy(ends).to(clip.device))
    sentences = F.normalize(_project(ended, towers.text.text_projection), dim=-1)
    cosines = F.normalize(frames, dim=-1) @ sentences.T
    return cosines.movedim(-1, 0).cpu().numpy()


def _project(
    states: Float[Tensor, "queries width"], projection: Any
) -> Float[Tensor, "queries embedding"]:
    return projection(states) if isinstance(projection, torch.nn.Module) else states @ projection
