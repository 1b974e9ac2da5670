"""The compiled look against the same look as it is: what it returns, and every gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpu_check.inputs import random_batch
from gpu_check.measuring import autocast, set_precision
from gpu_check.report import Report
from gpu_check.setting import Setting
from r2t.train.model.compiling import Compiled
from r2t.train.model.model import R2Model
from r2t.train.model.padding import Extents
from r2t.train.model.whole_look import WholeLook, look_at_layer

LIMITS = {"fp16": 2e-2, "fp32": 1e-4}  # as of the whole model; each is compiled anew
COMPILING_SECONDS = 40.0  # what one compilation may take of a section's time


def compiled_look(setting: Setting) -> Compiled:
    """Return the look at a layer, compiled; on a CPU it is traced and run as it is."""
    return Compiled(look_at_layer, backend="inductor" if setting.on_gpu else "eager")


def require_compiled(compiled: Compiled) -> None:
    """Raise if what was measured was not compiled after all."""
    if compiled.failed:
        raise RuntimeError("torch could not compile it; the log of this section says why")


def run(setting: Setting, report: Report) -> None:
    """Compare in two precisions, without dropout, which each draws in its own way."""
    compiled = compiled_look(setting)
    for precision in LIMITS:
        name = f"compiled look, {precision}"
        report.attempt(
            name,
            lambda n=name, p=precision: _compare(setting, report, compiled, n, p),
            seconds=COMPILING_SECONDS if setting.on_gpu else 0,
        )


def _compare(
    setting: Setting, report: Report, compiled: Compiled, name: str, precision: str
) -> None:
    set_precision(precision)
    expected = _results(setting, precision, None)
    found = _results(setting, precision, compiled)
    require_compiled(compiled)
    errors = {
        key: float((found[key] - truth).double().norm() / truth.double().norm().clamp(min=1e-30))
        for key, truth in expected.items()
    }
    worst = max(errors, key=lambda key: errors[key])
    report.within(name, errors[worst], LIMITS[precision], worst)


def _results(setting: Setting, precision: str, compiled: Compiled | None) -> dict[str, Tensor]:
    torch.manual_seed(0)
    config = setting.sizes.model(dropout=0.0, drop_path=0.0)
    block: Any = R2Model(config).train().to(setting.device).block
    batch = random_batch(setting.sizes, setting.sizes.reference_batch).to(setting.device)
    look = WholeLook(config, batch, Extents.independent(batch), compiled)
    with autocast(setting.device, precision):
        outputs = look(block, block.query_map(batch.query.float()).transpose(0, 1))
    weighted = [each.float() * _ramp(each) for each in outputs]
    torch.stack([each.sum() for each in weighted]).sum().backward()
    gradients = {
        f"d {key}": value.grad
        for key, value in block.video_map.named_parameters()
        if value.grad is not None
    }
    named = {"CLS tokens": outputs[0], "pooled": outputs[1], **gradients}
    return {key: value.detach().float() for key, value in named.items()}


def _ramp(like: Tensor) -> Tensor:
    """Return weights for a sum whose gradients do not cancel."""
    return torch.linspace(0, 1, like.shape[-1], device=like.device)
