"""`r2t train`: features to a model."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from r2t.cli.ui import INTERRUPTED, duration, handle_errors, note, print_json, progress_bar

if TYPE_CHECKING:
    from r2t.store.feature_store import FeatureStore
    from r2t.train.config import TrainConfig
    from r2t.train.fit import Splits
    from r2t.train.trainer import EpochRecord

DEFAULT_PRESET = "qvhighlights"
SHOWN_METRICS = (
    "MR-full-R1@0.5",
    "MR-full-R1@0.7",
    "MR-full-mAP",
    "HL-min-VeryGood-mAP",
    "HL-min-VeryGood-Hit1",
    "mAP",
)
EXAMPLES = (
    "Examples:\n\n"
    "  r2t train --store feats.zarr\n\n"
    "  r2t train --store charades.zarr --preset charades --recipe official --out runs/charades\n\n"
    "  r2t train --store feats.zarr --out runs/charades --resume"
)


def train(  # noqa: PLR0913 - one parameter an option
    store: Annotated[str, typer.Option(help="Feature store to train on: a folder or a URL.")],
    preset: Annotated[
        str | None,
        typer.Option(
            help="Settings to start from: qvhighlights (default), charades, ego4d, tacos, youtube "
            "or tvsum."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default runs/<time>.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out.")
    ] = False,
    recipe: Annotated[
        str | None, typer.Option(help="Loss weights: paper (default) or official.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Number of epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Queries in a batch.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    warmup: Annotated[
        int | None, typer.Option(help="Iterations over which the learning rate rises.")
    ] = None,
    hidden_width: Annotated[int | None, typer.Option(help="Width of the R² Block.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Dropout of the feature maps.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="On a GPU: float16, bfloat16 or float32.")
    ] = None,
    ema_decay: Annotated[
        float | None, typer.Option(help="Average the weights with this decay, such as 0.999.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs without a better score.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides weights, order and held-out videos.")]
    = None,
    domain: Annotated[
        str | None, typer.Option(help="Train on this domain of the store alone.")
    ] = None,
    val_fraction: Annotated[
        float,
        typer.Option(help="Share of the videos to hold out if the store has no val split."),
    ] = 0.1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train R²-Tuning on a feature store; everything about the run is in its folder."""
    with handle_errors():
        from r2t.store.feature_store import FeatureStore
        from r2t.train.devices import pick_device
        from r2t.train.fit import fit, split_annotations

        features = FeatureStore.open(store)
        folder = _folder(out, resume=resume)
        changes = {
            "epochs": epochs,
            "batch_size": batch_size,
            "precision": precision,
            "ema_decay": ema_decay,
            "patience": patience,
            "seed": seed,
            "model.width": hidden_width,
            "model.dropout": dropout,
            "schedule.learning_rate": lr,
            "schedule.warmup_iterations": warmup,
        }
        base = _base_config(features, folder, preset, recipe, resume=resume)
        config = with_changes(base, changes)
        splits = split_annotations(
            features, domain=domain, val_fraction=val_fraction, seed=config.seed
        )
        _introduce(config, features, splits, folder)
        epoch_lines = _EpochLines(config.epochs)
        with progress_bar("epochs", config.epochs) as bar:

            def on_epoch(record: EpochRecord) -> None:
                note(epoch_lines.line(record))
                bar(record.epoch + 1)

            try:
                fit(
                    config,
                    features,
                    splits,
                    folder,
                    resume=resume,
                    device=pick_device(device),
                    on_epoch=on_epoch,
                )
            except KeyboardInterrupt as error:
                note(f"interrupted; go on with the same options and --out {folder} --resume")
                raise typer.Exit(INTERRUPTED) from error
        best = epoch_lines.best
        if json:
            print_json(_result(folder, best))
        else:
            note(f"done: {folder}" + ("" if best is None else f", best epoch {best.epoch + 1}"))


def with_changes(config: TrainConfig, changes: dict[str, Any]) -> TrainConfig:
    """Set fields, named as `model.width` in nested settings; None leaves a field as it is."""
    given = {name: value for name, value in changes.items() if value is not None}
    nested: dict[str, dict[str, Any]] = {}
    for name, value in given.items():
        part, _, field = name.rpartition(".")
        nested.setdefault(part, {})[field] = value
    own = nested.pop("", {})
    parts = {part: replace(getattr(config, part), **fields) for part, fields in nested.items()}
    return replace(config, **own, **parts)
