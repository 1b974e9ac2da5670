"""Fine-tuning: a new run that begins with the weights of another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from r2t.cli.shared import note
from r2t.store.compatibility import require_compatible
from r2t.store.errors import ConfigError

if TYPE_CHECKING:
    from r2t.store.feature_store import FeatureStore
    from r2t.train.run import TrainConfig

FREE_FIELDS = ("dropout", "drop_path", "padding")  # no weight depends on them


def begun_with(run: Path, folder: Path) -> Path:
    """Return where to learn what `run` is: an interrupted run that began with it has it all."""
    from r2t.train.run import CONFIG, RunFolder

    if not (folder / CONFIG).exists():
        return run
    _, trained_on = RunFolder(folder).load_config()
    return run if trained_on.initial is None else folder


def continue_from(
    config: TrainConfig, run: Path, store: FeatureStore, hidden_width: int | None
) -> TrainConfig:
    """Return settings whose model has the shape of another run's, or refuse to.

    Width and heads are taken from that run. The features must be of the same CLIP, at any frame
    rate.
    """
    from r2t.train.run import RunFolder

    folder = RunFolder(run)
    model = folder.load_config()[0].model
    wanted = config.model
    if hidden_width is None:
        wanted = replace(wanted, width=model.width, num_heads=model.num_heads)
    fields = [name for name in vars(wanted) if name not in FREE_FIELDS]
    differing = [
        f"{name}: {getattr(model, name)!r} in {run}, {getattr(wanted, name)!r} wanted"
        for name in fields
        if getattr(model, name) != getattr(wanted, name)
    ]
    if differing:
        raise ConfigError(
            f"--init {run}: its weights do not fit the model to train: {'; '.join(differing)}"
        )
    spec = folder.load_spec()
    if spec.frame_rate != store.spec.frame_rate:
        note(
            f"note: {run} was trained at {spec.frame_rate} fps, the store has "
            f"{store.spec.frame_rate}"
        )
    same_rate = replace(spec, frame_rate=store.spec.frame_rate)
    require_compatible(
        same_rate,
        store.spec,
        action=f"fine-tune {run} on {store.location}",
        names=(run, store.location),
    )
    return replace(config, model=wanted)
