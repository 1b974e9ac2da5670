"""Features to moments: the model, its training, and what it says about a video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.train.grounding.grounder import Grounder as Grounder
    from r2t.train.run.config import TrainConfig as TrainConfig
    from r2t.train.run.own_data import OWN_PRESET as OWN_PRESET, follow_data as follow_data
    from r2t.train.run.presets import find_preset as find_preset
    from r2t.train.training.fit import (
        split_annotations as split_annotations,
        train_model as train_model,
    )
else:
    __getattr__ = lazy_exports(__name__)
