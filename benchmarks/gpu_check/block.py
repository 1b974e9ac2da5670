"""The model against the CPU in float64: outputs, losses, every gradient; and what must be skipped.

An error is the length of the difference over the length of what is compared, tensor by tensor; the
worst tensor is named. A gradient shorter than the gradients' root mean square is divided by that
instead: a sum that cancels, such as a gate's, has no digits of its own. And a gradient may be off
by `GRADIENT_SHARE` times the limit: where two words nearly tie for a maximum, rounding decides to
which of them it flows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from block_variants import open_gate
from torch import Tensor

from gpu_check import attention, compiled, infinity
from gpu_check.draws import Sides, in_float64, same_draws
from gpu_check.inputs import random_batch
from gpu_check.measuring import autocast, free_memory, set_precision
from gpu_check.report import Report
from gpu_check.setting import Setting
from r2t.train.data.batch import Batch
from r2t.train.model.config import R2Config
from r2t.train.model.looks import MakeLook, choose_look
from r2t.train.model.losses import LossConfig, compute_losses
from r2t.train.model.model import R2Model
from r2t.train.model.reference_look import ReferenceLook
from r2t.train.model.tiled_look import TiledLook
from r2t.train.model.whole_look import WholeLook

LIMITS = {"fp32": 1e-4, "tf32": 2e-2, "fp16": 2e-2, "bf16": 16e-2}  # 23, 10, 10 and 7 bits
GRADIENT_SHARE = 4
LOSS_SCALE = 2.0**12  # without it float16 loses small gradients
FAST: dict[str, MakeLook] = {"tiled": TiledLook, "whole": WholeLook}
EQUAL_TILES = partial(TiledLook, frames_in_tile=100)  # on both devices

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A batch and a model to compare on, and the looks that are compared with a reference."""

    name: str
    batch: Batch
    config: R2Config
    looks: dict[str, MakeLook] = field(default_factory=lambda: FAST)
    reference: MakeLook = ReferenceLook
    draws: Callable[[], AbstractContextManager[None]] = nullcontext


def run(setting: Setting, report: Report) -> None:
    """Compare every case in every precision; then attention alone, and steps to be skipped."""
    for make_case in CASES:
        case = make_case(setting)
        reference: list[tuple[Tensors, Sides]] = []

        def refer(case: Case = case, into: list[tuple[Tensors, Sides]] = reference) -> None:
            sides = Sides()
            found = results(case, torch.device("cpu"), case.reference, "fp64", sides)
            into.append((found, sides))

        name = ", ".join([case.name, *(case.looks if case.draws is same_draws else [])])
        report.verify(f"{name}: float64 on the CPU", refer)
        if not reference:
            continue
        for look in case.looks:
            for precision in LIMITS:
                if precision == "tf32" and not setting.on_gpu:
                    continue
                compare(setting, report, case, (look, precision), *reference[0])
        free_memory(setting.device)
    attention.run(setting, report)
    infinity.run(setting, report)
    compiled.run(setting, report)


def compare(
    setting: Setting,
    report: Report,
    case: Case,
    way: tuple[str, str],
    expected: Tensors,
    sides: Sides,
) -> None:
    look, precision = way
    name = f"{case.name}, {look}, {precision}"

    def compare_results() -> None:
        found = results(case, setting.device, case.looks[look], precision, Sides(sides))
        error, where = worst_error(found, expected)
        report.within(name, error, LIMITS[precision], where)

    report.verify(name, compare_results)


def worst_error(found: Tensors, expected: Tensors) -> tuple[float, str]:
    """Return the largest error and where it is."""
    lengths = [float(truth.norm()) for name, truth in expected.items() if name.startswith("d ")]
    usual = math.sqrt(sum(length**2 for length in lengths) / len(lengths))
    errors: dict[str, float] = {}
    for name, truth in expected.items():
        length = max(float(truth.norm()), usual if name.startswith("d ") else 1e-30)
        error = float((found[name].double() - truth).norm()) / length
        if name.startswith("d "):
            error /= GRADIENT_SHARE
        errors[name] = error if math.isfinite(error) else math.inf
    worst = max(errors, key=lambda name: errors[name])
    return errors[worst], worst


def results(
    case: Case, device: torch.device, make_look: MakeLook, precision: str, sides: Sides
) -> Tensors:
    """Return outputs, losses and gradients of one training step, on the host."""
    set_precision(precision)
    model = make_model(case.config, make_look).to(device)
    if precision == "fp64":
        model.double()
    batch = case.batch.to(device)
    assert batch.targets is not None
    scale = LOSS_SCALE if precision == "fp16" else 1.0
    with in_float64() if precision == "fp64" else nullcontext(), case.draws(), sides:
        with autocast(device, precision):
            predictions = model(batch)
        losses = compute_losses(predictions, batch.targets, LossConfig())
        (losses.total * scale).backward()
    assert predictions.offsets is not None
    outputs = {
        "logits": predictions.class_logits[predictions.point_mask],
        "offsets": predictions.offsets[predictions.point_mask],
        "saliency": predictions.saliency[predictions.frame_mask],
        **losses.terms(),
        **{
            f"d {name}": parameter.grad / scale
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        },
    }
    return {name: tensor.detach().cpu() for name, tensor in outputs.items()}


def make_model(config: R2Config, make_look: MakeLook = choose_look) -> R2Model:
    """Make a training model whose gates are open, the same each time."""
    torch.manual_seed(0)
    model = R2Model(config, make_look)
    open_gate(model)
    return model.train()


def _undisturbed(setting: Setting) -> R2Config:
    return setting.sizes.model(dropout=0.0, drop_path=0.0)


def plain(setting: Setting) -> Case:
    """Videos of several lengths."""
    batch = random_batch(setting.sizes, setting.sizes.reference_batch)
    looks = {**FAST, "reference": ReferenceLook}
    return Case("batch", batch, _undisturbed(setting), looks)


def official(setting: Setting) -> Case:
    """The same, with padding let through as the official code does."""
    case = plain(setting)
    config = replace(case.config, padding="official")
    return replace(case, name="official padding", config=config, looks=FAST)


def shared(setting: Setting) -> Case:
    """Queries that share a video, beside one that has its own."""
    case = plain(setting)
    batch = case.batch
    last = len(batch) - 1
    place = torch.tensor([0] * last + [1])
    num_frames = batch.num_frames[torch.tensor([0, last])][place]
    assert batch.targets is not None
    moments = batch.targets.moments.clamp(max=float(num_frames.min()))
    first = batch.targets.positive_frame.clamp(max=int(num_frames.min()) - 1)
    batch = replace(
        batch,
        videos=batch.videos[[0, last]].contiguous(),
        video_of_query=place,
        num_frames=num_frames,
        targets=replace(batch.targets, moments=moments, positive_frame=first),
    )
    return replace(case, name="shared videos", batch=batch, looks=FAST)


def eight_bit(setting: Setting) -> Case:
    """Codes with scales and offsets."""
    case = plain(setting)
    videos = case.batch.videos
    shape = (len(videos), videos.shape[1], videos.shape[-1])
    affine = torch.stack([torch.rand(shape) / 40 + 0.01, torch.rand(shape) - 0.5], dim=1)
    codes = (videos.float() * 40).clamp(-128, 127).to(torch.int8)
    batch = replace(case.batch, videos=codes, affine=affine)
    return replace(case, name="int8", batch=batch, looks=FAST)


def equal_dropout(setting: Setting) -> Case:
    """Dropout and dropped paths in tiles, the same on both devices."""
    return _equal_dropout(setting, "tiled", EQUAL_TILES)


def equal_dropout_whole(setting: Setting) -> Case:
    """Dropout and dropped paths of a whole batch, the same on both devices."""
    return _equal_dropout(setting, "whole", WholeLook)


def _equal_dropout(setting: Setting, name: str, make_look: MakeLook) -> Case:
    return Case(
        "equal dropout",
        plain(setting).batch,
        setting.sizes.model(),
        looks={name: make_look},
        reference=make_look,
        draws=same_draws,
    )


def long_video(setting: Setting) -> Case:
    """One video longer than a tile of the GPU, at half the layers."""
    sizes = replace(setting.sizes, num_layers=max(1, setting.sizes.num_layers // 2))
    batch = random_batch(sizes, 1, num_frames=sizes.long_num_frames)
    config = sizes.model(dropout=0.0, drop_path=0.0)
    return Case(f"{sizes.long_num_frames:,} frames", batch, config)


CASES = (plain, official, shared, eight_bit, equal_dropout, equal_dropout_whole, long_video)
