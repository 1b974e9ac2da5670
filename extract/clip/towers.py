"""The two towers of a CLIP: building them, refusing those that cannot serve, asking what they are.

Depths, sizes and preprocessing come from the built model, never from a table of names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from jaxtyping import Float, Int64
from open_clip.model import CLIP
from open_clip.timm_model import TimmModel
from open_clip.transformer import TextTransformer, VisionTransformer
from torch import Tensor, nn

from r2t.extract.clip.weights import ModelSource, quiet_open_clip
from r2t.store.errors import ConfigError

Rgb = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Towers:
    """A CLIP and its two halves; `text` is the model itself where plain CLIP carries that tower.

    They are typed loosely because open_clip's modules declare no attributes.
    """

    network: nn.Module
    visual: Any
    text: Any

    @property
    def timm(self) -> bool:
        """Whether the vision tower is one of timm's, in open_clip's wrapper."""
        return isinstance(self.visual, TimmModel)

    @property
    def vision_depth(self) -> int:
        """Number of vision layers."""
        encoder = self.visual.trunk if self.timm else self.visual.transformer
        return len(encoder.blocks if self.timm else encoder.resblocks)

    @property
    def text_depth(self) -> int:
        """Number of text layers."""
        return len(self.text.transformer.resblocks)

    def preprocessing(self) -> tuple[int, Rgb, Rgb]:
        """Return the side of the pictures in pixels, and the mean and std of their channels."""
        settings = self.visual.preprocess_cfg
        size = settings["size"]
        height, width = (size, size) if isinstance(size, int) else size
        if height != width:
            raise ConfigError(
                f"the model takes pictures of {width} x {height}; only square ones can be stored"
            )
        return int(height), _rgb(settings["mean"]), _rgb(settings["std"])


def build_towers(source: ModelSource, settings: dict[str, Any]) -> Towers:
    """Build both towers with random weights from seed 0, and refuse those that cannot serve.

    `settings` are what open_clip records about a pretrained tag.
    """
    text_config = source.config()["text_cfg"]
    if "hf_model_name" in text_config or "hf_tokenizer_name" in text_config:
        raise _unfit(source, "its text tower or its tokenizer is not CLIP's own")
    with torch.random.fork_rng(devices=[]), quiet_open_clip():
        torch.manual_seed(0)
        try:
            network: Any = open_clip.create_model(
                source.open_clip_name,
                load_weights=False,
                pretrained_text=False,
                force_quick_gelu=bool(settings.get("quick_gelu")),
                force_preprocess_cfg=settings,
            )
        except (ValueError, TypeError, KeyError, RuntimeError, AssertionError) as error:
            raise ConfigError(f"cannot build the model {source.name}: {error}") from error
    towers = Towers(network, network.visual, getattr(network, "text", network))
    if towers.timm:
        trunk: Any = towers.visual.trunk
        if getattr(trunk, "num_prefix_tokens", 0) != 1 or not hasattr(trunk, "blocks"):
            raise _unfit(source, "its vision tower has no CLS token before its patches")
    elif not isinstance(towers.visual, VisionTransformer):
        raise _unfit(source, f"its vision tower is a {type(towers.visual).__name__}, not a ViT")
    if not isinstance(towers.text, (CLIP, TextTransformer)) or towers.text.attn_mask is None:
        raise _unfit(source, "its text tower does not read from left to right")
    return towers


def text_states(
    tower: Any, tokens: Int64[Tensor, "queries words"], layers: Sequence[int]
) -> list[Float[Tensor, "queries words width"]]:
    """Return hidden states of padded sentences, counted from 1.

    open_clip's own entry point wants all 77 positions. Attention is causal, so the states of the
    first words are the same without the rest, and six times cheaper for a common sentence.
    """
    num_words = tokens.shape[1]
    embedded = tower.token_embedding(tokens) + tower.positional_embedding[:num_words]
    _, states = tower.transformer.forward_intermediates(
        embedded,
        attn_mask=tower.attn_mask[:num_words, :num_words],
        indices=[layer - 1 for layer in layers],
        stop_early=True,
    )
    return states


def _unfit(source: ModelSource, reason: str) -> ConfigError:
    return ConfigError(
        f"{source.name} cannot serve as the frozen CLIP: {reason}; ViT-B-32-quickgelu can"
    )


def _rgb(values: Any) -> Rgb:
    red, green, blue = map(float, values)
    return red, green, blue
