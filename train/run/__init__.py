"""What a run is: its settings, its files, its records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.train.run.config import ScheduleConfig as ScheduleConfig, TrainConfig as TrainConfig
    from r2t.train.run.exclusive_folder import (
        held_folder as held_folder,
        require_writable_run as require_writable_run,
        reserved_folder as reserved_folder,
    )
    from r2t.train.run.hub_card import (
        MODEL_CARD as MODEL_CARD,
        model_card as model_card,
        stated_licence as stated_licence,
    )
    from r2t.train.run.initial import take_initial as take_initial
    from r2t.train.run.own_data import (
        OWN_DATA as OWN_DATA,
        OWN_PRESET as OWN_PRESET,
        follow_data as follow_data,
        follow_run as follow_run,
    )
    from r2t.train.run.presets import (
        PRESETS as PRESETS,
        Preset as Preset,
        find_preset as find_preset,
    )
    from r2t.train.run.records import (
        Bottleneck as Bottleneck,
        EpochRecord as EpochRecord,
        Timing as Timing,
        ValidationScore as ValidationScore,
    )
    from r2t.train.run.run_folder import (
        CONFIG as CONFIG,
        METRICS_FILE as METRICS_FILE,
        STATE as STATE,
        WEIGHTS as WEIGHTS,
        RunFolder as RunFolder,
    )
    from r2t.train.run.shared_records import shared_record as shared_record
    from r2t.train.run.trained_on import ImportedWeights as ImportedWeights, TrainedOn as TrainedOn
else:
    __getattr__ = lazy_exports(__name__)
