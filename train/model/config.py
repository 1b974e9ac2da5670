"""Sizes and switches of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from r2t.store.errors import ConfigError
from r2t.train.model.pooling import Pooling

# Far above any useful size, and small enough to be refused before they fill the memory.
MAX_LAYERS, MAX_WIDTH, MAX_LEVELS = 256, 1 << 16, 16
Direction = Literal["backward", "forward", "parallel"]


@dataclass(frozen=True, kw_only=True)
class R2Config:
    """Sizes and switches of the model; the defaults are the paper's for moment retrieval.

    `temporal_features`: append each frame's relative start and end to its tokens. `boundary_head`:
    predict moments; highlight-only tasks do without. `padding` is that of the training:
    "independent" gives a sample the outputs it has alone; "official" lets padding influence it as
    the official training does. Evaluation is always independent, as the official one is. `prior`:
    frames also carry what the frozen CLIP itself makes of them and the sentence.

    The rest is for ablations. `direction` in which layers are walked: "backward" from the last,
    "forward" from the first, or "parallel", where each is refined alone and their mean is read.
    `pooling` is what a frame gives beside its CLS token: patches pooled by the "query", the "mean"
    of all tokens, or nothing, "cls". `shared_weights`: all layers share the block's. With
    `layer_weighting` what is read is not the last step but a learned mean of all.
    """

    num_layers: int = 4
    vision_width: int = 768
    text_width: int = 512
    width: int = 256
    num_heads: int = 8
    strides: tuple[int, ...] = (1, 2, 4, 8)
    temporal_features: bool = True
    boundary_head: bool = True
    dropout: float = 0.5
    drop_path: float = 0.1
    padding: Literal["independent", "official"] = "independent"
    direction: Direction = "backward"
    pooling: Pooling = "query"
    shared_weights: bool = True
    layer_weighting: bool = False
    prior: bool = False

    @property
    def ablated(self) -> bool:
        """Whether any switch departs from the method."""
        method = ("backward", "query", True, False)
        chosen = (self.direction, self.pooling, self.shared_weights, self.layer_weighting)
        return chosen != method

    def __post_init__(self) -> None:
        for name, most in (
            ("num_layers", MAX_LAYERS),
            ("vision_width", MAX_WIDTH),
            ("text_width", MAX_WIDTH),
            ("width", MAX_WIDTH),
            ("num_heads", MAX_WIDTH),
        ):
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be from 1 to {most}")
        if len(self.strides) > MAX_LEVELS:
            raise ConfigError(f"strides: {len(self.strides)} levels; the limit is {MAX_LEVELS}")
        if self.width % (2 * self.num_heads):
            raise ConfigError(
                f"width = {self.width} and num_heads = {self.num_heads}: the width must be a "
                "multiple of twice the number of heads"
            )
        if list(self.strides) != [2**level for level in range(len(self.strides))]:
            raise ConfigError(f"strides = {self.strides}: give (1,), (1, 2), (1, 2, 4) and so on")
        for name in ("dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be in [0, 1)")
        for name, legal in (
            ("padding", ("independent", "official")),
            ("direction", get_args(Direction)),
            ("pooling", get_args(Pooling)),
        ):
            if getattr(self, name) not in legal:
                raise ConfigError(
                    f"{name} = {getattr(self, name)!r}: must be one of {', '.join(legal)}"
                )
