"""Features to moments: the model, its training, and what it says about a video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.train.devices import mixed_dtype as mixed_dtype, pick_device as pick_device
    from r2t.train.grounding import Grounder as Grounder
    from r2t.train.run import (
        OWN_PRESET as OWN_PRESET,
        TrainConfig as TrainConfig,
        find_preset as find_preset,
        follow_data as follow_data,
    )
    from r2t.train.training import (
        split_annotations as split_annotations,
        train_model as train_model,
    )
else:
    __getattr__ = lazy_exports(__name__)
