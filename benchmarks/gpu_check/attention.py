"""Masked attention at lengths that kernels treat differently: the model's own, then each backend's.

Only the attention that the model uses has to be right; the other backends are shown for the record.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from gpu_check.draws import in_float64
from gpu_check.measuring import AUTOCAST, autocast
from gpu_check.report import Report, in_one_line
from gpu_check.setting import Setting
from r2t.train.model.refinement import Attention

LENGTHS = (64, 75, 192)  # 64 = 192 = 64 modulo 128
LIMITS = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 16e-2}  # as of the whole model
BACKENDS = {
    "math": SDPBackend.MATH,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
}
BATCH, HEADS, WIDTH = 4, 8, 256
FAR = 20.0  # a factor for queries whose scores are all far below zero


def run(setting: Setting, report: Report) -> None:
    """Check the module, and look at the backends."""
    for length in LENGTHS:
        for precision in LIMITS:
            name = f"attention over {length}, {precision}"
            report.verify(
                name, lambda n=name, x=length, p=precision: _module(setting, report, n, x, p)
            )
        for precision in LIMITS if setting.on_gpu else ():
            name = f"backends over {length}, {precision}"
            report.attempt(
                name, lambda n=name, x=length, p=precision: _backends(setting, report, n, x, p)
            )


def _module(setting: Setting, report: Report, name: str, length: int, precision: str) -> None:
    found = _attend(setting.device, length, precision)
    with in_float64():
        expected = _attend(torch.device("cpu"), length, "fp64")
    report.within(name, _error(found, expected), LIMITS[precision])
    far = _attend(setting.device, length, precision, FAR)
    finite = all(bool(tensor.isfinite().all()) for tensor in far)
    report.check(f"{name}, scores far below zero", "all finite" if finite else "NaN", holds=finite)


def _attend(device: torch.device, length: int, precision: str, factor: float = 1.0) -> list[Tensor]:
    """Return what attention gives and its gradients; the last sample has a quarter of its keys."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(BATCH, length, WIDTH, generator=generator, dtype=torch.float32)
    wanted = torch.randn(BATCH, length, WIDTH, generator=generator, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        module = Attention(WIDTH, HEADS)
        torch.set_default_dtype(before)
    if factor != 1:
        with torch.no_grad():  # a frame and itself then have the lowest score, and all a low one
            module.key.weight.copy_(-module.query.weight)
            module.key.bias.fill_(factor)
            module.query.bias.fill_(-factor)
    dtype = torch.float64 if precision == "fp64" else torch.float32
    module = module.to(device, dtype)
    frames = frames.to(device, dtype).requires_grad_()
    with autocast(device, precision):
        found = module(frames, frames, frames, _mask(length, device))
    (found.to(dtype) * wanted.to(device, dtype)).sum().backward()
    gradients = [weight.grad for weight in module.parameters() if weight.grad is not None]
    assert frames.grad is not None
    return [tensor.detach().double().cpu() for tensor in (found, frames.grad, *gradients)]


def _mask(length: int, device: torch.device) -> Tensor:
    lengths = torch.tensor([length] * (BATCH - 1) + [length // 4], device=device)
    return torch.arange(length, device=device) < lengths[:, None]


def _error(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest error of a tensor, over its length or the usual one if that is more."""
    lengths = [float(truth.norm()) for truth in expected]
    usual = math.sqrt(sum(length**2 for length in lengths[1:]) / len(lengths[1:]))
    errors = [
        float((mine - truth).norm()) / max(length, usual if place else 0.0)
        for place, (mine, truth, length) in enumerate(zip(found, expected, lengths, strict=True))
    ]
    return math.inf if any(map(math.isnan, errors)) else max(errors)


def _backends(setting: Setting, report: Report, name: str, length: int, precision: str) -> None:
    parts = []
    for label, backend in BACKENDS.items():
        for far in (1.0, FAR):
            where = f"{label}{' far' if far != 1 else ''}"
            parts.append(f"{where} {_of_backend(setting, backend, length, precision, far)}")
    report.note(name, ", ".join(parts))


def _of_backend(
    setting: Setting, backend: SDPBackend, length: int, precision: str, far: float
) -> str:
    """Return the error of a backend's output and gradients, or what it says instead."""
    expected = _scaled_dot_product(torch.device("cpu"), SDPBackend.MATH, length, "fp64", far)
    try:
        found = _scaled_dot_product(setting.device, backend, length, precision, far)
    except RuntimeError as error:
        setting.check_device()
        return "n/a" if "kernel" in str(error) else in_one_line(error)
    if not all(bool(tensor.isfinite().all()) for tensor in found):
        return "NaN"
    return f"{_error(found, expected):.0e}"


def _scaled_dot_product(
    device: torch.device, backend: SDPBackend, length: int, precision: str, far: float
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (3, BATCH, HEADS, length, WIDTH // HEADS)
    values = torch.randn(*shape, generator=generator)
    if far != 1:
        values[1] = far - values[1]
        values[0] = values[0] - far
    dtype = {**AUTOCAST, "fp64": torch.float64}.get(precision, torch.float32)
    query, key, value = (
        each.to(device, dtype).requires_grad_() for each in values.to(torch.float16).unbind()
    )
    wanted = torch.randn(*shape[1:], generator=generator).to(device, dtype)
    with sdpa_kernel(backend):
        mask = _mask(length, device)[:, None, None]
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        (found * wanted).sum().backward()
    gradients = [each.grad for each in (query, key, value) if each.grad is not None]
    return [tensor.detach().double().cpu() for tensor in (found, *gradients)]
