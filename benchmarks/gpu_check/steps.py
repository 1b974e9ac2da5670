"""What a training step costs: by the way of looking at patches, precision and batch size.

A step is the trainer's: forward, losses, backward, clipping and AdamW, with dropout. Peak memory
includes the batch. Kernels and waits of the host are counted at the largest batch alone. At last
`r2t train`'s own loop, with its own clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from gpu_check.block import make_model
from gpu_check.compiled import COMPILING_SECONDS, compiled_look, require_compiled
from gpu_check.infinity import Repeated, train_config
from gpu_check.inputs import random_batch
from gpu_check.measuring import (
    PRECISIONS,
    autocast,
    free_memory,
    host_waits,
    launches,
    median_seconds,
    set_precision,
)
from gpu_check.names import COMPILED, LOOP, step_name
from gpu_check.report import Report
from gpu_check.setting import Setting
from r2t.train.choices import Precision
from r2t.train.data.batch import Batch
from r2t.train.model.compiling import Compiled
from r2t.train.model.looks import MakeLook
from r2t.train.model.losses import compute_losses
from r2t.train.model.reference_look import ReferenceLook
from r2t.train.model.tiled_look import TiledLook
from r2t.train.model.whole_look import WholeLook
from r2t.train.run.records import EpochRecord
from r2t.train.training.execution import Execution
from r2t.train.training.optimizer import Optimizer
from r2t.train.training.processes import ALONE
from r2t.train.training.trainer import train_on_batches

LEARNING_RATE = 1e-4
LOOP_STEPS = 5
NAMES: dict[Precision, str] = {"float16": "fp16", "float32": "fp32"}


def run(setting: Setting, report: Report) -> None:
    """Measure every way; what has to be compiled last."""
    sizes = setting.sizes
    looks: dict[str, MakeLook] = {
        "whole": WholeLook,
        "tiled": TiledLook,
        "reference": ReferenceLook,
    }
    for size in sizes.batch_sizes:
        batch = _large_batch(setting, size)
        shown = looks if setting.on_gpu or size == max(sizes.batch_sizes) else {}
        for look in shown.items():
            for precision in _precisions(setting):
                _measure(setting, report, look, precision, batch)
        del batch
        free_memory(setting.device)
    batches = [_large_batch(setting, size) for size in sizes.batch_sizes]
    compiled = compiled_look(setting)
    make_look = partial(WholeLook, compiled=compiled)
    for precision in reversed(_precisions(setting)):
        for batch in batches[:1] if setting.small else batches:
            _measure(setting, report, (COMPILED, make_look), precision, batch, compiled)
    for precision in NAMES:  # these compile anew
        for batch in batches:
            _loop(setting, report, precision, batch)


def _precisions(setting: Setting) -> tuple[str, ...]:
    """Return what to measure in: one of each kind where it is but a trial of the code."""
    return PRECISIONS if setting.on_gpu else ("fp32", "fp16")


def _measure(
    setting: Setting,
    report: Report,
    way: tuple[str, MakeLook],
    precision: str,
    batch: Batch,
    compiled: Compiled | None = None,
) -> None:
    look, make_look = way
    name = step_name(look, precision, len(batch))
    do = report.verify if look in ("tiled", "whole") else report.attempt
    seconds = COMPILING_SECONDS if compiled is not None and setting.on_gpu else 4

    def measure() -> None:
        _time(setting, report, name, make_look, precision, batch)
        if compiled is not None:
            require_compiled(compiled)

    do(name, measure, seconds=seconds)
    free_memory(setting.device)


def _time(
    setting: Setting,
    report: Report,
    name: str,
    make_look: MakeLook,
    precision: str,
    batch: Batch,
) -> None:
    step = _stepper(setting, make_look, precision, batch)
    seconds = median_seconds(step, setting.device, repeats=setting.sizes.repeats)
    notes: list[str] = []
    if setting.on_gpu:
        notes.append(f"peak {torch.cuda.max_memory_allocated(setting.device) / 1e9:.1f} GB")
    report.measure(name, 1000 * seconds, "ms", ", ".join(notes))
    if len(batch) != max(setting.sizes.batch_sizes) or (setting.small and precision != "fp32"):
        return
    report.attempt(
        f"{name}: launches",
        lambda: report.measure(
            f"{name}: launches",
            launches(step, setting.device),
            "kernels" if setting.on_gpu else "operators",
        ),
        seconds=4,
    )
    if setting.on_gpu:
        report.attempt(f"{name}: waits", lambda: _waits(report, f"{name}: waits", step), seconds=2)


def _waits(report: Report, name: str, step: Callable[[], None]) -> None:
    found = host_waits(step)
    places = ", ".join(f"{place} x{count}" for place, count in found.most_common())
    report.measure(name, sum(found.values()), "waits", places)


def _stepper(
    setting: Setting, make_look: MakeLook, precision: str, batch: Batch
) -> Callable[[], None]:
    config = train_config(setting, "float32")
    set_precision(precision)
    model = make_model(config.model, make_look).to(setting.device)
    scaled = setting.device.type if setting.on_gpu and precision == "fp16" else None
    optimizer = Optimizer(model, config, scaled_on=scaled)
    assert batch.targets is not None
    targets = batch.targets

    def step() -> None:
        with autocast(setting.device, precision):
            predictions = model(batch)
        losses = compute_losses(predictions, targets, config.losses)
        optimizer.step(losses.total, LEARNING_RATE, ALONE)

    return step


def _loop(setting: Setting, report: Report, precision: Precision, batch: Batch) -> None:
    """Measure steps of the training loop, in its second epoch."""
    name = step_name(LOOP, NAMES[precision], len(batch))

    def measure() -> None:
        records: list[EpochRecord] = []
        config = replace(train_config(setting, precision), epochs=2)
        execution = Execution(device=setting.device, on_epoch=records.append)
        folder = setting.folder / f"loop-{precision}-{len(batch)}"
        train_on_batches(config, Repeated(batch, LOOP_STEPS), folder, execution=execution)
        report.measure(name, 1000 * records[-1].timing.step_seconds / LOOP_STEPS, "ms")

    seconds = COMPILING_SECONDS if setting.on_gpu else 4
    report.verify(name, measure, seconds=seconds)
    free_memory(setting.device)


def _large_batch(setting: Setting, size: int) -> Batch:
    """Make a batch on the device by repeating a few samples."""
    few = random_batch(setting.sizes, min(size, 4)).to(setting.device)
    times = -(-size // len(few))

    def repeat(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.repeat(times, *[1] * (tensor.dim() - 1))[:size]

    assert few.targets is not None
    return replace(
        few,
        query_ids=tuple(map(str, range(size))),
        videos=repeat(few.videos),
        video_of_query=torch.arange(size, device=setting.device),
        num_frames=repeat(few.num_frames),
        query=repeat(few.query),
        num_words=repeat(few.num_words),
        durations_seconds=repeat(few.durations_seconds),
        frame_rates_fps=repeat(few.frame_rates_fps),
        targets=few.targets.map(repeat),
    )
