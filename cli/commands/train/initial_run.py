"""What a run takes over from an earlier one: from itself, or from the one that it fine-tunes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import r2t.store
from r2t.cli.shared import note
from r2t.store.compatibility import require_compatible
from r2t.store.errors import ConfigError
from r2t.train import run

FREE_FIELDS = ("dropout", "drop_path", "padding")  # no weight depends on them


def begun_with(initial: Path, folder: Path) -> Path:
    """Return where to learn what `initial` is: an interrupted run that began with it has it all."""
    if not (folder / run.CONFIG).exists():
        return initial
    _, trained_on = run.RunFolder(folder).load_config()
    return initial if trained_on.initial is None else folder


def held_out_by(folder: Path) -> tuple[str, ...]:
    """Return the videos that the run in a folder holds out, which it must go on to do."""
    if not (folder / run.CONFIG).exists():
        return ()
    return run.RunFolder(folder).load_config()[1].held_out_videos or ()


def continue_from(
    config: run.TrainConfig,
    initial: Path,
    store: r2t.store.FeatureStore,
    hidden_width: int | None,
) -> run.TrainConfig:
    """Return settings whose model has the shape of another run's, or refuse to.

    Width and heads are taken from that run, and whether the model takes a prior. The features must
    be of the same CLIP, at any frame rate.
    """
    folder = run.RunFolder(initial)
    model = folder.load_config()[0].model
    config = replace(config, prior="on" if model.prior else "off").with_prior(has_embeddings=True)
    wanted = config.model
    if hidden_width is None:
        wanted = replace(wanted, width=model.width, num_heads=model.num_heads)
    fields = [name for name in vars(wanted) if name not in FREE_FIELDS]
    differing = [
        f"{name}: {getattr(model, name)!r} in {initial}, {getattr(wanted, name)!r} wanted"
        for name in fields
        if getattr(model, name) != getattr(wanted, name)
    ]
    if differing:
        raise ConfigError(
            f"--init {initial}: its weights do not fit the model to train: {'; '.join(differing)}"
        )
    spec = folder.load_spec()
    if spec.frame_rate != store.spec.frame_rate:
        note(
            f"note: {initial} was trained at {spec.frame_rate} fps, the store has "
            f"{store.spec.frame_rate}"
        )
    same_rate = replace(spec, frame_rate=store.spec.frame_rate)
    require_compatible(
        same_rate,
        store.spec,
        action=f"fine-tune {initial} on {store.location}",
        names=(initial, store.location),
    )
    return replace(config, model=wanted)
