"""The folder of a run whose model is untrained and understands the embedded CLIP's features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tiny_config import tiny_config
from toy_store import FRAME_RATE_FPS, make_store

from r2t.store.schema import FeatureSpec
from r2t.train.grounding.presence import PresenceRule
from r2t.train.model.config import R2Config
from r2t.train.model.model import R2Model
from r2t.train.model.ranking import LEARNED_SCORE
from r2t.train.run.run_folder import RunFolder
from r2t.train.run.trained_on import TrainedOn


def make_demo_run(folder: Path, spec: FeatureSpec) -> Path:
    """Write `folder`/run for features of a spec, as `r2t train` would leave it."""
    sizes = R2Config(
        num_layers=spec.num_layers,
        vision_width=spec.vision_width,
        text_width=spec.text_width,
        width=16,
        num_heads=2,
    )
    config = replace(tiny_config(make_store(folder / "feats.zarr")), model=sizes)
    run = RunFolder(folder / "run")
    provenance = {"model": "r2t-demo", "pretrained": "demo"}
    run.claim(config, TrainedOn(identity=spec, provenance=provenance), resume=False)
    run.save_weights("best", R2Model(config.model))
    return run.path


def presence_rule(
    threshold: float, score: str = LEARNED_SCORE, *, frame_rate: float = FRAME_RATE_FPS
) -> PresenceRule:
    """A rule that tells present from absent well."""
    return PresenceRule(
        score=score,
        frame_rate=frame_rate,
        threshold=threshold,
        precision=0.9,
        recall=0.9,
        rejected=0.9,
        auc=0.95,
        auc_low=0.9,
        auc_high=1.0,
        held_out_right=0.9,
        held_out_right_low=0.8,
        held_out_right_high=1.0,
        held_out_misses=0.1,
        held_out_misses_low=0.0,
        held_out_misses_high=0.2,
        held_out_false_alarms=0.1,
        held_out_false_alarms_low=0.0,
        held_out_false_alarms_high=0.2,
        num_present=100,
        num_absent=400,
    )
