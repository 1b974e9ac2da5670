"""A training run on the terminal: what it is, how far it has come and what it waits for."""

from __future__ import annotations

import math
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import typer

import r2t.store
import r2t.train
from r2t.cli.shared import INTERRUPTED, ShowDone, human_bytes, note, progress_bar
from r2t.store.schema import PER_VIDEO
from r2t.store.wording import counted
from r2t.train import data, run, training
from r2t.train.choices import LookName

TRACE = "trace.json"
SHOWN_METRICS = (
    "MR-full-R1@0.5",
    "MR-full-R1@0.7",
    "MR-full-mAP",
    "HL-min-VeryGood-mAP",
    "HL-min-VeryGood-Hit1",
    "mAP",
)


@dataclass(frozen=True, kw_only=True)
class TrainRun:
    """A run as the options describe it."""

    config: run.TrainConfig
    store: r2t.store.FeatureStore
    splits: training.Splits
    folder: Path
    initial: Path | None
    processes: training.Processes
    reading: data.Reading
    chosen: data.ChosenCache
    resume: bool
    allow_changed: bool
    look: LookName
    checkpoint_minutes: float
    profile: bool

    def carry_out(self) -> None:
        """Train, or continue an interrupted run, and show how far it is."""
        if self.processes.leads:
            self._introduce()
            with progress_bar("epochs", self.config.epochs) as show_done:
                self._fit(show_done)
            if self.profile:
                note(f"trace of a few steps, for ui.perfetto.dev: {self.folder / TRACE}")
        else:
            self._fit(None)

    def _fit(self, show_done: ShowDone | None) -> None:
        config = self.config
        unfinished = run.RunFolder(self.folder).is_unfinished(config.epochs, config.patience)
        if unfinished and self.processes.leads:
            note(f"continuing the unfinished run in {self.folder}")
        execution = training.Execution(
            device=self.reading.device,
            resume=self.resume or unfinished,
            allow_changed=self.allow_changed,
            checkpoint_minutes=self.checkpoint_minutes,
            look=self.look,
            processes=self.processes,
        )
        if show_done is not None:
            execution = self._with_reports(execution, show_done)
        try:
            training.train_model(
                config,
                self.store,
                self.splits,
                self.folder,
                initial=self.initial,
                execution=execution,
                reading=self.reading,
            )
        except KeyboardInterrupt as error:
            if self.processes.leads:
                note(f"interrupted; to continue, run the same command with --out {self.folder}")
            raise typer.Exit(INTERRUPTED) from error

    def _with_reports(
        self, execution: training.Execution, show_done: ShowDone
    ) -> training.Execution:
        """Return an execution that also shows how far the run is."""
        times: list[float] = []
        finished, epochs = 0, self.config.epochs

        def on_step(done: float, total: float) -> None:
            show_done(finished + done / total, epochs, f"step {done}/{total}")

        def on_epoch(record: run.EpochRecord) -> None:
            nonlocal finished
            finished = record.epoch + 1
            times.append(record.seconds)
            note(epoch_line(record, self.config.epochs, sum(times) / len(times)))
            show_done(finished, epochs)

        return replace(
            execution,
            on_step=on_step,
            on_epoch=on_epoch,
            trace=self.folder / TRACE if self.profile else None,
        )

    def _introduce(self) -> None:
        config, splits = self.config, self.splits
        where = str(self.reading.device)
        if self.processes.size > 1:
            where = f"{self.processes.size} processes, this one on {where}"
        num_videos = [
            len({annotation.video_id for annotation in rows}) for rows in (splits.train, splits.val)
        ]
        preset = "own data" if config.preset == run.OWN_DATA else config.preset
        note(
            f"training {preset}, {config.losses.recipe} recipe, on {self.store.location}: "
            f"{counted(len(splits.train), 'query')} of {counted(num_videos[0], 'video')}; "
            f"run {self.folder} on {where}"
        )
        for each in prior_lines(config, self.store):
            note(each)
        if config.precision == "bfloat16" and self.reading.device.type == "cpu":
            dtype = r2t.train.mixed_dtype(self.reading.device, config.precision)
            words = "in bfloat16" if dtype else "in float32: this processor has no bfloat16"
            note(f"the model computes {words}")
        num_queries = data.count_trained(self.store, splits.train, config.min_duration_seconds)
        iterations = config.num_iterations(num_queries)
        if iterations:  # else the training says what is wrong
            note(schedule_line(config, iterations))
            for each in misfits(config, iterations, self.store.spec.frame_rate):
                note(f"warning: {each}", style="yellow")
        if splits.held_out:
            note(
                "the store has no labelled val split, so some videos are held out, drawn with seed "
                f"{config.seed}: {num_videos[1]} of {sum(num_videos)} "
                f"({counted(len(splits.val), 'query')})"
            )
        elif not splits.val:
            note("no validation: the last weights count as the best")
        if line := cache_line(self.chosen):
            note(line)


def cache_line(chosen: data.ChosenCache) -> str:
    """Say where features are kept, or why they are not; nothing where there is no such place."""
    size, room = human_bytes(chosen.needed_bytes), human_bytes(chosen.usable_bytes)
    if chosen.cache is not None:
        where = "memory" if chosen.cache.transfer is None else "the GPU's memory"
        return (
            f"features stay in {where} once they are read: they take up to {size}, and {room} "
            "may be used for them"
        )
    if chosen.usable_bytes:
        return (
            f"features are read anew in every pass: they take up to {size}, and {room} of the "
            "GPU's memory may be used for them"
        )
    return ""


def prior_lines(config: run.TrainConfig, store: r2t.store.FeatureStore) -> Iterator[str]:
    """Say whether the model is given CLIP's own similarity, where that is not as in the paper."""
    if config.with_prior(has_embeddings=store.embedding is not None).model.prior:
        yield "the model is given CLIP's own similarity of frames and sentence (prior)"
    elif config.prior == "auto":
        yield (
            f"no prior: {store.location} has no embeddings, which hold CLIP's own similarity of "
            "frames and sentence; r2t store upgrade adds them"
        )


def schedule_line(config: run.TrainConfig, iterations: int) -> str:
    """Say how a run of so many iterations goes, and what of it is for this data."""
    schedule, unit = config.schedule, config.decoding.unit_seconds
    warmup = min(schedule.warmup_iterations, iterations)
    words = [
        counted(iterations, "iteration"),
        f"the learning rate rises to {schedule.learning_rate:g} over {warmup:,} of them "
        f"({warmup / iterations:.0%})",
        *(
            f"it is multiplied by {schedule.decay:g} from epoch {epoch + 1}"
            for epoch in schedule.step_epochs
            if epoch < config.epochs
        ),
        "moments are not rounded" if unit is None else f"moments are rounded to {unit:g} s",
    ]
    if config.preset == run.OWN_DATA:
        words.append("these follow your data; --preset takes those of a dataset")
    return "; ".join(words)


def misfits(
    config: run.TrainConfig, iterations: int, frame_rate: float | Literal["per-video"]
) -> Iterator[str]:
    """Yield what of a run's settings does not fit the data, and what to do about it."""
    schedule, unit = config.schedule, config.decoding.unit_seconds
    if 2 * schedule.warmup_iterations > iterations:
        per_epoch = max(1, iterations // config.epochs)
        last = training.learning_rate(schedule, iterations - 1, per_epoch)
        yield (
            f"the warm-up of {schedule.warmup_iterations:,} iterations takes more than half of the "
            f"run's {iterations:,}, whose last learning rate is {last:.2g} of "
            f"{schedule.learning_rate:g}: give a shorter --warmup, or leave out --preset for one "
            "that follows the data"
        )
    if unit is not None and frame_rate != PER_VIDEO and unit * frame_rate > 1:
        yield (
            f"moments are rounded to {unit:g} s, but the store has a frame every "
            f"{1 / frame_rate:g} s: give --set decoding.unit_seconds={1 / frame_rate:g}, or leave "
            "out --preset for a rounding that follows the data"
        )


def epoch_line(record: run.EpochRecord, num_epochs: int, seconds_per_epoch: float) -> str:
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
        f"{record.timing.samples_per_second:.3g} samples/s",
        bottleneck(record.timing),
    ]
    remaining = num_epochs - record.epoch - 1
    if remaining:
        words.append(f"{_clock(remaining * seconds_per_epoch)} left")
    if record.is_best and record.score is not None:
        words.append("best so far")
    if record.skipped_steps:
        words.append(f"{counted(record.skipped_steps, 'step')} overflowed")
    return "  ".join(words)


def bottleneck(timing: run.Timing) -> str:
    """Say what an epoch's time went into most."""
    seconds = {
        "reading": timing.wait_seconds,
        "model": timing.step_seconds,
        "validation": timing.validation_seconds,
    }
    share = seconds[timing.bottleneck] / max(sum(seconds.values()), 1e-9)
    read = f" at {timing.read_gb_per_second:.2g} GB/s" if timing.bottleneck == "reading" else ""
    return f"{share:.0%} {timing.bottleneck}{read}"


@contextmanager
def quiet_unless_leading(processes: training.Processes) -> Generator[None]:
    """Let one of several processes speak for all."""
    with warnings.catch_warnings():
        if not processes.leads:
            warnings.simplefilter("ignore")
        yield


def _clock(seconds: float) -> str:
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
