"""Settings for your own data: those for QVHighlights, without what belongs to that dataset alone.

A dataset's preset fixes how long the learning rate rises, when it falls, what moments are rounded
to and which videos are too short to learn from. On other data these are adapted: warm-up and decay
come at the same shares of the run as for QVHighlights, moments are rounded to a frame, and no video
is too short. The model is given CLIP's own similarity where the store has embeddings, which the
paper's is not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from r2t.store.schema import PER_VIDEO
from r2t.train.run.config import TrainConfig
from r2t.train.run.presets import QVHIGHLIGHTS

OWN_DATA = "own"  # instead of a preset's name
OWN_PRESET = replace(QVHIGHLIGHTS, name=OWN_DATA, min_duration_seconds=0.0, prior="auto")

_QVHIGHLIGHTS_QUERIES = 7_218  # of its train split
_QVHIGHLIGHTS_ITERATIONS = QVHIGHLIGHTS.train_config().num_iterations(_QVHIGHLIGHTS_QUERIES)
WARMUP_SHARE = QVHIGHLIGHTS.warmup_iterations / _QVHIGHLIGHTS_ITERATIONS
STEP_SHARES = tuple(epoch / QVHIGHLIGHTS.epochs for epoch in QVHIGHLIGHTS.step_epochs)


def follow_data(
    config: TrainConfig, *, num_queries: int, frame_rate: float | Literal["per-video"]
) -> TrainConfig:
    """Return settings whose schedule fits a run on so many queries, and rounding the frames.

    Where every video has a frame rate of its own, moments are not rounded.
    """
    iterations = config.num_iterations(num_queries)
    steps = {round(share * config.epochs) for share in STEP_SHARES}
    schedule = replace(
        config.schedule,
        warmup_iterations=round(WARMUP_SHARE * iterations),
        step_epochs=tuple(sorted(step for step in steps if 0 < step < config.epochs)),
    )
    unit_seconds = None if frame_rate == PER_VIDEO else 1 / frame_rate
    decoding = replace(config.decoding, unit_seconds=unit_seconds)
    return replace(config, schedule=schedule, decoding=decoding)


def follow_run(config: TrainConfig, begun: TrainConfig) -> TrainConfig:
    """Return settings with what an interrupted run took from the data, to go on with it."""
    schedule = replace(
        config.schedule,
        warmup_iterations=begun.schedule.warmup_iterations,
        step_epochs=begun.schedule.step_epochs,
    )
    decoding = replace(config.decoding, unit_seconds=begun.decoding.unit_seconds)
    return replace(config, schedule=schedule, decoding=decoding)
