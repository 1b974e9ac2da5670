"""`r2t train`: from a feature store to a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from r2t.cli.initial_run import continue_from
from r2t.cli.ui import INTERRUPTED, handle_errors, note, print_json, progress_bar
from r2t.store.errors import ConfigError

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
    "  r2t train --store charades.zarr --out runs/charades --resume\n\n"
    "  r2t train --store mine.zarr --init runs/qvh --lr 1e-5 --epochs 10 --out runs/mine"
)


def train(  # noqa: PLR0913 - a parameter for each option
    store: Annotated[str, typer.Option(help="Feature store: a folder or a URL.")],
    preset: Annotated[
        str | None,
        typer.Option(
            help="Settings to start from: qvhighlights (the default), charades, ego4d, tacos, "
            "youtube or tvsum."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; by default runs/<time>.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, in its settings.")
    ] = False,
    init: Annotated[
        Path | None, typer.Option(help="Begin with the best weights of this run: fine-tuning.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Loss weights: paper (the default) or official.")
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
    seed: Annotated[
        int | None, typer.Option(help="Decides weights, order and held-out videos.")
    ] = None,
    domain: Annotated[str | None, typer.Option(help="Train on this domain alone.")] = None,
    val_fraction: Annotated[
        float,
        typer.Option(help="Share of the videos to hold out where the store has no val split."),
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
        folder = _run_folder(out, resume=resume)
        base = _base_config(features, folder, preset, recipe, resume=resume)
        if init is not None:
            base = continue_from(base, init, features, hidden_width)
        config = with_changes(
            base,
            {
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
            },
        )
        splits = split_annotations(
            features, domain=domain, val_fraction=val_fraction, seed=config.seed
        )
        processor = pick_device(device)
        _introduce(config, features, splits, f"{folder} on {processor}")
        times: list[float] = []
        with progress_bar("epochs", config.epochs) as show_done:

            def on_epoch(record: EpochRecord) -> None:
                times.append(record.seconds)
                note(epoch_line(record, config.epochs, sum(times) / len(times)))
                show_done(record.epoch + 1)

            try:
                fit(
                    config,
                    features,
                    splits,
                    folder,
                    initial=init,
                    resume=resume,
                    device=processor,
                    on_epoch=on_epoch,
                )
            except KeyboardInterrupt as error:
                note(f"interrupted; the same command with --out {folder} --resume goes on")
                raise typer.Exit(INTERRUPTED) from error
        result = run_result(folder)
        if json:
            print_json(result)
        else:
            note(f"trained: {folder}, best epoch {result['best_epoch']} of {result['epochs']}")


def with_changes(config: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """Set fields, those of a part named `part.field`; None leaves a field as it is."""
    fields: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        if value is not None:
            part, _, field = name.rpartition(".")
            fields.setdefault(part, {})[field] = value
    own = fields.pop("", {})
    parts = {part: replace(getattr(config, part), **given) for part, given in fields.items()}
    return replace(config, **own, **parts)


def epoch_line(record: EpochRecord, num_epochs: int, seconds_per_epoch: float) -> str:
    """Describe a finished epoch, its main metrics, and when the last one will be."""
    words = [
        f"epoch {record.epoch + 1}/{num_epochs}",
        f"loss {record.losses['total']:.4f}",
        *(
            f"{name.removeprefix('MR-full-').removeprefix('HL-min-VeryGood-HL-')} "
            f"{record.metrics[name]:.2f}"
            for name in SHOWN_METRICS
            if name in record.metrics
        ),
        f"{record.seconds:.1f} s",
    ]
    remaining = num_epochs - record.epoch - 1
    if remaining:
        words.append(f"{_clock(remaining * seconds_per_epoch)} left")
    if record.is_best and record.score is not None:
        words.append("best so far")
    if record.skipped_steps:
        words.append(f"{record.skipped_steps} steps overflowed")
    return "  ".join(words)


def run_result(folder: Path) -> dict[str, Any]:
    """Return where a run is and how good it became; epochs count from 1."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records: list[dict[str, Any]] = [loads(line) for line in lines]
    best = next(record for record in reversed(records) if record["is_best"])
    return {
        "run": str(folder),
        "epochs": len(records),
        "best_epoch": best["epoch"] + 1,
        "score": best["score"],
        "metrics": best["metrics"],
    }


def _run_folder(out: Path | None, *, resume: bool) -> Path:
    if out is not None:
        return out
    if resume:
        raise ConfigError("--resume needs --out, the folder of the run to go on with")
    return Path("runs") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def _base_config(
    store: FeatureStore, folder: Path, preset: str | None, recipe: str | None, *, resume: bool
) -> TrainConfig:
    """Return the settings of the run to resume, or of the preset."""
    from r2t.train.checkpoint import CONFIG, RunFolder
    from r2t.train.presets import preset as find_preset

    if resume and (folder / CONFIG).exists():
        recorded, _ = RunFolder(folder).load_config()
        for name, given, used in (
            ("preset", preset, recorded.preset),
            ("recipe", recipe, recorded.losses.recipe),
        ):
            if given not in (None, used):
                raise ConfigError(f"{folder} was started with {name} {used!r}, not {given!r}")
        return recorded
    if recipe not in (None, "paper", "official"):
        raise ConfigError(f"recipe {recipe!r}: legal are paper and official")
    chosen = find_preset(preset or DEFAULT_PRESET)
    if chosen.frame_rate != store.spec.frame_rate:
        note(
            f"note: the preset {chosen.name} is for features at {chosen.frame_rate} fps, "
            f"the store has {store.spec.frame_rate}"
        )
    return chosen.train_config(
        recipe=recipe or "paper",
        num_layers=store.spec.num_layers,
        vision_width=store.spec.vision_width,
        text_width=store.spec.text_width,
    )


def _introduce(config: TrainConfig, store: FeatureStore, splits: Splits, where: str) -> None:
    num_videos = [
        len({annotation.video_id for annotation in rows}) for rows in (splits.train, splits.val)
    ]
    note(
        f"training {config.preset}, {config.losses.recipe} recipe, on {store.location}: "
        f"{len(splits.train)} queries of {num_videos[0]} videos; run {where}"
    )
    if splits.held_out:
        note(
            f"the store has no val split: {num_videos[1]} of {sum(num_videos)} videos "
            f"({len(splits.val)} queries), drawn with seed {config.seed}, are held out"
        )
    elif not splits.val:
        note("no validation: the last weights count as the best")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
