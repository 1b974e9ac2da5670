"""What the ablations compare: variants of a training run, and the tables that show them together.

A variant is one change to the default, R²-Tuning on the last four layers of a float16 store. Tables
share runs: the last layer alone is a row of the directions and of the numbers of layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from r2t.train.run.config import TrainConfig

DEFAULT = "R²-Tuning"


@dataclass(frozen=True)
class Tier:
    """Which store to read: its last layers, CLS tokens alone or all, and how they are stored."""

    num_layers: int = 4
    cls_only: bool = False
    dtype: Literal["float16", "int8"] = "float16"

    @property
    def name(self) -> str:
        """A name for its folder."""
        return f"{self.num_layers}-layers{'-cls' * self.cls_only}-{self.dtype}"


@dataclass(frozen=True)
class Variant:
    """One way to train: a store, and changes to the model's and the losses' settings."""

    key: str
    tier: Tier = Tier()
    model: Mapping[str, Any] = field(default_factory=dict)
    losses: Mapping[str, Any] = field(default_factory=dict)

    def configure(self, config: TrainConfig) -> TrainConfig:
        """Change the default's settings to this variant's."""
        return replace(
            config,
            model=replace(config.model, num_layers=self.tier.num_layers, **self.model),
            losses=replace(config.losses, **self.losses),
        )


NO_VIDEO, NO_LAYER = {"video_weight": 0.0}, {"layer_weight": 0.0}
CLS_TIER = Tier(cls_only=True)
VARIANTS = {
    variant.key: variant
    for variant in (
        Variant("default"),
        Variant("no-video-calibration", losses=NO_VIDEO),
        Variant("no-layer-calibration", losses=NO_LAYER),
        Variant("no-calibration", losses=NO_VIDEO | NO_LAYER),
        Variant("forward", model={"direction": "forward"}),
        Variant("parallel", model={"direction": "parallel"}),
        *(Variant(f"layers-{count}", Tier(count)) for count in (1, 2, 3, 5, 6)),
        Variant("mean", model={"pooling": "mean"}),
        Variant("cls", CLS_TIER, model={"pooling": "cls"}),
        Variant("separate-weights", model={"shared_weights": False}),
        Variant("layer-weighting", model={"layer_weighting": True}),
        Variant("no-time-features", model={"temporal_features": False}),
        Variant("int8", Tier(dtype="int8")),
        Variant("last-cls", Tier(1, cls_only=True), model={"pooling": "cls"}),
    )
}

# Title, and in each row what it is called and the variant that it shows.
TABLES: dict[str, dict[str, str]] = {
    "Calibration": {
        "across videos and across layers": "default",
        "across layers only": "no-video-calibration",
        "across videos only": "no-layer-calibration",
        "none": "no-calibration",
    },
    "Direction": {
        "backward: last layer to first": "default",
        "forward: first layer to last": "forward",
        "parallel: mean of all": "parallel",
        "last layer only": "layers-1",
    },
    "Number of layers": {
        "1": "layers-1",
        "2": "layers-2",
        "3": "layers-3",
        "4": "default",
        "5": "layers-5",
        "6": "layers-6",
    },
    "Spatial pooling": {
        "by the query, with gate": "default",
        "mean of the patches": "mean",
        "CLS token only": "cls",
    },
    "Block": {
        "shared weights, time features, last step read": "default",
        "weights of its own for each layer": "separate-weights",
        "learned mean of all steps read": "layer-weighting",
        "no time features": "no-time-features",
    },
    "Tiers of the store": {
        "float16, 4 layers": "default",
        "int8, 4 layers": "int8",
        "float16, 2 layers": "layers-2",
        "float16, 1 layer": "layers-1",
        "float16, 4 layers, CLS only": "cls",
    },
    "Baselines": {
        DEFAULT: "default",
        "CLS of the last layer, same refinement, pyramid and heads": "last-cls",
    },
}
