"""CLIP's own answer to "how well does this frame fit this sentence", from stored features."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F

from r2t.extract.clip import FrozenClip
from r2t.store.errors import ConfigError
from r2t.store.schema import QueryFeatures, VideoFeatures


@torch.inference_mode()
def similarity(
    clip: FrozenClip, video: VideoFeatures, query: QueryFeatures
) -> Float32[np.ndarray, "frames tokens"]:
    """Return the cosine between every stored token and the sentence, CLS first.

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
    end = torch.from_numpy(query.tokens[-1, -1].astype(np.float32)).to(clip.device)
    sentence = _project(towers.text.ln_final(end), towers.text.text_projection)
    return (F.normalize(frames, dim=-1) @ F.normalize(sentence, dim=-1)).cpu().numpy()


def _project(state: Float[Tensor, " width"], projection: Any) -> Float[Tensor, " embedding"]:
    return projection(state) if isinstance(projection, torch.nn.Module) else state @ projection
