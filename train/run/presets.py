"""The paper's settings for its six benchmarks, as released with the official code.

Where paper and code disagree, `recipe` chooses. "paper" has the paper's losses, gives every sample
the outputs it has alone, and shuffles each pass. "official" is all that the released code trains
with: its losses (see `LossConfig`), padding that has an effect, and the passes of an epoch
shuffled together. The rest is the same in both, as released: no source but the code states it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from r2t.store.errors import ConfigError
from r2t.train.choices import Evaluator, PositiveRule, PriorChoice, Recipe
from r2t.train.model import DecodeConfig, LossConfig, R2Config, Suppression
from r2t.train.run.config import ScheduleConfig, TrainConfig

PAPER_WEIGHT = 0.1  # of the boundary, saliency and calibration losses alike


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How a benchmark is trained and evaluated.

    `frame_rate` is what its videos are sampled at; "per-video" stands for one frame per annotated
    clip. `highlights_only`: saliency alone is annotated, so the model has neither time features nor
    a boundary head. `official_saliency_weight` belongs to the "official" recipe. Training drops
    videos shorter than `min_duration_seconds`: the released configurations do so for the datasets
    of moments, and not for those of highlights.
    """

    name: str
    evaluator: Evaluator
    frame_rate: float | Literal["per-video"]
    learning_rate: float
    epochs: int
    step_epochs: tuple[int, ...]
    batch_size: int
    warmup_iterations: int
    repeats: int = 1
    dropout: float = 0.5
    highlights_only: bool = False
    positive: PositiveRule = "above_zero"
    min_duration_seconds: float = 0.0
    official_saliency_weight: float = 0.1
    unit_seconds: float | None = None
    suppression: Suppression = "linear"
    prior: PriorChoice = "off"

    def train_config(
        self,
        *,
        recipe: Recipe = "paper",
        num_layers: int = 4,
        vision_width: int = 768,
        text_width: int = 512,
        seed: int = 0,
    ) -> TrainConfig:
        """Return the full settings for features of the given layers and widths."""
        official = recipe == "official"
        return TrainConfig(
            preset=self.name,
            evaluator=self.evaluator,
            model=R2Config(
                num_layers=num_layers,
                vision_width=vision_width,
                text_width=text_width,
                strides=(1,) if self.highlights_only else (1, 2, 4, 8),
                temporal_features=not self.highlights_only,
                boundary_head=not self.highlights_only,
                dropout=self.dropout,
                padding="official" if official else "independent",
            ),
            losses=self.loss_config(recipe),
            decoding=DecodeConfig(
                unit_seconds=self.unit_seconds,
                suppression=self.suppression,
                cosine_saliency=not self.highlights_only,
            ),
            schedule=ScheduleConfig(
                learning_rate=self.learning_rate,
                warmup_iterations=self.warmup_iterations,
                step_epochs=self.step_epochs,
            ),
            positive=self.positive,
            min_duration_seconds=self.min_duration_seconds,
            epochs=self.epochs,
            repeats=self.repeats,
            batch_size=self.batch_size,
            sampling="joint" if official else "uniform",
            prior="off" if official else self.prior,
            seed=seed,
        )

    def loss_config(self, recipe: Recipe) -> LossConfig:
        """Return the losses as the paper states them or as the official code has them."""
        official = recipe == "official"
        return LossConfig(
            recipe=recipe,
            classification="saliency" if self.highlights_only else "focal",
            contrast="row" if self.highlights_only else "row+column",
            focal_alpha=None if official else 0.9,
            boundary_weight=2 * PAPER_WEIGHT if official else PAPER_WEIGHT,
            saliency_weight=self.official_saliency_weight if official else PAPER_WEIGHT,
        )


QVHIGHLIGHTS = Preset(
    name="qvhighlights",
    evaluator="qvhighlights",
    frame_rate=0.5,
    learning_rate=5e-4,
    epochs=30,
    step_epochs=(20,),
    batch_size=128,
    warmup_iterations=500,
    repeats=4,
    min_duration_seconds=5.0,
    unit_seconds=2.0,
    suppression="hard",
)
CHARADES = Preset(
    name="charades",
    evaluator="moments",
    frame_rate=1.0,
    learning_rate=2.5e-4,
    epochs=50,
    step_epochs=(30,),
    batch_size=32,
    warmup_iterations=500,
    dropout=0.35,
    official_saliency_weight=0.01,
    min_duration_seconds=5.0,
    unit_seconds=0.1,
)
EGO4D = Preset(
    name="ego4d",
    evaluator="moments",
    frame_rate=0.5,
    learning_rate=2.5e-4,
    epochs=30,
    step_epochs=(20,),
    batch_size=32,
    warmup_iterations=500,
    dropout=0.3,
    min_duration_seconds=5.0,
)
TACOS = Preset(
    name="tacos",
    evaluator="moments",
    frame_rate=0.5,
    learning_rate=2.5e-4,
    epochs=100,
    step_epochs=(50,),
    batch_size=32,
    warmup_iterations=500,
    official_saliency_weight=0.05,
    min_duration_seconds=5.0,
)
YOUTUBE = Preset(
    name="youtube",
    evaluator="youtube",
    frame_rate="per-video",
    learning_rate=5e-4,
    epochs=200,
    step_epochs=(),
    batch_size=4,
    warmup_iterations=50,
    highlights_only=True,
    positive="above_half",
)
TVSUM = Preset(
    name="tvsum",
    evaluator="tvsum",
    frame_rate=0.5,
    learning_rate=5e-4,
    epochs=500,
    step_epochs=(),
    batch_size=4,
    warmup_iterations=50,
    highlights_only=True,
    positive="above_median",
)
PRESETS = {p.name: p for p in (QVHIGHLIGHTS, CHARADES, EGO4D, TACOS, YOUTUBE, TVSUM)}


def find_preset(name: str) -> Preset:
    """Look up a preset by its dataset's name."""
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r}: must be one of {', '.join(PRESETS)}")
    return PRESETS[name]
