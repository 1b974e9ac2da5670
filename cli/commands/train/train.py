"""`r2t train`: from a feature store to a model."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

import r2t.train
from r2t.cli.commands.train.initial_run import begun_with, continue_from
from r2t.cli.commands.train.progress import TrainRun, quiet_unless_leading
from r2t.cli.commands.train.settings import GivenSettings, base_config, settle
from r2t.cli.shared import (
    DEFAULT_CACHE_BYTES,
    Device,
    DiskCache,
    DiskCacheSize,
    Domain,
    InitialRun,
    Json,
    OptionalQueryBatch,
    OptionalSeed,
    Store,
    Windows,
    as_windows,
    examples,
    fields_as_typed,
    handle_errors,
    one_of,
    open_store,
    print_json,
    say,
)
from r2t.store.errors import ConfigError
from r2t.train import data, run, training
from r2t.train.choices import CacheChoice, LookName, Precision, PresetName, Recipe, SampleOrder

FIELD_OPTIONS = {
    "learning_rate": "--lr",
    "warmup_iterations": "--warmup",
    "width": "--hidden-width",
    "dropout": "--dropout",
    "ema_decay": "--ema-decay",
    "patience": "--patience",
    "val_fraction": "--val-fraction",
    "buffer_gb": "--buffer-gb",
}


@examples(
    "r2t train --store feats.zarr",
    "r2t train --store charades.zarr --preset charades --recipe official --out runs/charades",
    "r2t train --store s3://bucket/feats.zarr --disk-cache ~/.cache/feats",
    "r2t train --store charades.zarr --out runs/charades --resume",
    "r2t train --store charades.zarr --out runs/charades --resume --allow-changed",
    "r2t train --store feats.zarr --set model.direction=forward --set losses.layer_weight=0",
    "r2t train --store feats.zarr --set prior=off    # without CLIP's own similarity",
    "r2t train --store mine.zarr --init runs/qvh --lr 1e-5 --epochs 10 --out runs/mine",
    "torchrun --nproc-per-node 4 -m r2t.cli train --store feats.zarr --out runs/four-gpus",
)
def train(  # noqa: PLR0913 - a parameter for each option
    store: Store,
    disk_cache: DiskCache = None,
    disk_cache_size: DiskCacheSize = DEFAULT_CACHE_BYTES,
    preset: Annotated[
        PresetName | None,
        typer.Option(
            help="The paper's settings for a dataset, unchanged. By default those for "
            "QVHighlights, with warm-up, schedule and rounding adapted to your data.",
            **one_of(PresetName),
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; by default runs/<time>.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out with its own settings.")
    ] = False,
    allow_changed: Annotated[
        bool,
        typer.Option(
            "--allow-changed",
            help="Let a resumed run go on though its store has changed under it: it trains on what "
            "is there now, and its config.json records what changed.",
        ),
    ] = False,
    init: InitialRun = None,
    recipe: Annotated[
        Recipe | None,
        typer.Option(
            help="official trains as the released code does: its losses, padding that has an "
            "effect, and the passes of an epoch shuffled together. By default paper: the "
            "paper's losses, padding without effect, each pass shuffled by itself.",
            **one_of(Recipe),
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of epochs.")] = None,
    batch_size: OptionalQueryBatch = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    warmup: Annotated[
        int | None, typer.Option(help="Iterations over which the learning rate rises.")
    ] = None,
    hidden_width: Annotated[int | None, typer.Option(help="Width of the R² Block.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Dropout of the feature maps.")] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="What a GPU computes in; by default float16. tf32 is float32 with less exact "
            "products. A CPU takes bfloat16 if it can, and float32 for all else.",
            **one_of(Precision),
        ),
    ] = None,
    ema_decay: Annotated[
        float | None, typer.Option(help="Average the weights with this decay, such as 0.999.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after this many epochs without a better score.")
    ] = None,
    seed: OptionalSeed = None,
    domain: Domain = None,
    val_fraction: Annotated[
        float,
        typer.Option(help="Share of the videos to hold out where the store has no val split."),
    ] = 0.1,
    sampling: Annotated[
        SampleOrder | None,
        typer.Option(
            help="Order of the samples: uniform shuffles each pass of an epoch, joint all of them "
            "together; video moves fewer bytes: queries of a video share a batch, and an epoch's "
            "passes take turns batch by batch. By default the order of the --recipe.",
            **one_of(SampleOrder),
        ),
    ] = None,
    windows: Windows = "auto",
    prefetch: Annotated[int, typer.Option(min=1, help="Batches to read ahead.")] = 2,
    buffer_gb: Annotated[
        float, typer.Option(help="Memory limit for batches, read ahead or in use, in GB.")
    ] = 8.0,
    cache: Annotated[
        CacheChoice,
        typer.Option(
            help="Where to keep all features once they are read: auto is in the GPU's memory if "
            "they fit there beside the training, and nowhere otherwise.",
            **one_of(CacheChoice),
        ),
    ] = "auto",
    look: Annotated[
        LookName,
        typer.Option(
            help="How patches are looked at, which changes no result: tiled a few frames at a "
            "time, whole all of a batch at once, reference as the formulas read. By default whole "
            "on a GPU with memory for it, else tiled.",
            **one_of(LookName),
        ),
    ] = "auto",
    checkpoint_minutes: Annotated[
        float, typer.Option(help="Also save the state during an epoch, after this many minutes.")
    ] = 15.0,
    profile: Annotated[
        bool, typer.Option("--profile", help="Write a trace of a few steps into the run's folder.")
    ] = False,
    device: Device = "auto",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="NAME=VALUE for any other setting, such as model.direction=forward or "
            "losses.layer_weight=0; may be repeated. Names are those of the run's config.json.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Train R²-Tuning on a feature store; everything about the run is in its folder."""
    with handle_errors(), fields_as_typed(options_typed(settings or [])):
        with ExitStack() as stack:
            processes, own_device = stack.enter_context(training.joined(device))
            stack.enter_context(quiet_unless_leading(processes))
            features = open_store(store, disk_cache, disk_cache_size)
            folder = stack.enter_context(_run_folder(out, processes, resume=resume))
            base = base_config(features, folder, preset, recipe, resume=resume)
            if init is not None and not resume:
                base = continue_from(base, begun_with(init, folder), features, hidden_width)
            given = GivenSettings(
                {
                    "epochs": epochs,
                    "batch_size": batch_size,
                    "precision": precision,
                    "ema_decay": ema_decay,
                    "patience": patience,
                    "sampling": sampling,
                    "windows": None if windows == "auto" else as_windows(windows),
                    "seed": seed,
                    "model.width": hidden_width,
                    "model.dropout": dropout,
                    "schedule.learning_rate": lr,
                    "schedule.warmup_iterations": warmup,
                },
                settings or [],
            )
            config, splits = settle(
                base,
                given,
                features,
                folder,
                domain=domain,
                val_fraction=val_fraction,
                resume=resume,
            )
            chosen = data.choose_cache(
                cache,
                features,
                [*splits.train, *splits.val],
                batch_size=config.batch_size,
                device=r2t.train.pick_device(own_device),
                sharers=processes.on_this_machine,
            )
            TrainRun(
                config=config,
                store=features,
                splits=splits,
                folder=folder,
                initial=init,
                processes=processes,
                reading=data.Reading(
                    device=r2t.train.pick_device(own_device),
                    prefetch=prefetch,
                    buffer_gb=buffer_gb,
                    cache=chosen.cache,
                ),
                chosen=chosen,
                resume=resume,
                allow_changed=allow_changed,
                look=look,
                checkpoint_minutes=checkpoint_minutes,
                profile=profile,
            ).carry_out()
        if processes.leads:
            _tell(folder, json=json)


def options_typed(settings: Sequence[str]) -> dict[str, str]:
    """Return by what each field is set: an option of its own, or one of `--set`."""
    names = [text.partition("=")[0] for text in settings]
    return FIELD_OPTIONS | {name.rpartition(".")[2]: f"--set {name} =" for name in names}


def _tell(folder: Path, *, json: bool) -> None:
    """Print where the run is and how good it became."""
    result = run_result(folder)
    if json:
        print_json(result)
    else:
        best = result["best_epoch"] or "unknown"
        say(f"trained: {folder}, best epoch {best} of {result['epochs']}")


def run_result(folder: Path) -> dict[str, Any]:
    """Return where a run is and how good it became; epochs count from 1.

    What the folder has no record of any more is None.
    """
    records = run.RunFolder(folder).metrics()
    none: dict[str, Any] = {}
    best = next((record for record in reversed(records) if record.get("is_best")), none)
    return {
        "run": str(folder),
        "epochs": max((record["epoch"] + 1 for record in records), default=0),
        "best_epoch": best["epoch"] + 1 if best else None,
        "score": best.get("score"),
        "metrics": best.get("metrics", {}),
    }


@contextmanager
def _run_folder(
    out: Path | None, processes: training.Processes, *, resume: bool
) -> Generator[Path]:
    """Yield where the run goes: by default a folder of its own, named by the time."""
    if out is not None:
        yield out
        return
    if resume:
        raise ConfigError("--resume needs --out, the folder of the run to continue")
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    with (
        run.reserved_folder(Path("runs"), now) if processes.leads else nullcontext(Path()) as folder
    ):
        name = processes.gather_bytes(folder.name.encode())[0].decode()
        yield Path("runs") / name
