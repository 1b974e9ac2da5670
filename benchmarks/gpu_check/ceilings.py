"""What the machine could do at best: moving bytes and multiplying matrices."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gpu_check.measuring import PRECISIONS, free_memory, median_seconds, set_precision
from gpu_check.names import PINNED
from gpu_check.report import Report
from gpu_check.setting import Setting

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
DTYPES["fp16"] = torch.float16


def run(setting: Setting, report: Report) -> None:
    """Measure copies, then products."""
    _copies(setting, report)
    free_memory(setting.device)
    for precision in PRECISIONS:
        if precision == "tf32" and not setting.on_gpu:
            report.unavailable("product in tf32", "of a GPU only")
            continue
        report.attempt(
            f"product in {precision}",
            lambda precision=precision: _product(setting, report, precision),
        )


def _copies(setting: Setting, report: Report) -> None:
    num_bytes, device = setting.sizes.copy_bytes, setting.device
    one, other = torch.zeros(2, num_bytes, dtype=torch.uint8, device=device)
    _rate(setting, report, "copy on the device", lambda: one.copy_(other), 2 * num_bytes)
    host = torch.zeros(num_bytes // 4, dtype=torch.uint8)
    here = one[: len(host)]
    if not setting.on_gpu:
        report.unavailable(PINNED, "of a GPU only")
        return
    _rate(setting, report, "pageable host to device", lambda: here.copy_(host), len(host))
    pinned = host.pin_memory()
    _rate(setting, report, PINNED, lambda: here.copy_(pinned, non_blocking=True), len(host))
    _rate(
        setting,
        report,
        "device to pinned host",
        lambda: pinned.copy_(here, non_blocking=True),
        len(host),
    )


def _rate(
    setting: Setting, report: Report, name: str, work: Callable[[], object], num_bytes: int
) -> None:
    def measure() -> None:
        seconds = median_seconds(work, setting.device, repeats=setting.sizes.repeats)
        report.measure(name, num_bytes / seconds / 1e9, "GB/s")

    report.attempt(name, measure)


def _product(setting: Setting, report: Report, precision: str) -> None:
    side = setting.sizes.matrix_side
    torch.manual_seed(0)
    left, right = torch.randn(2, side, side, device=setting.device, dtype=DTYPES[precision])
    out = torch.empty_like(left)
    set_precision(precision)
    seconds = median_seconds(
        lambda: torch.mm(left, right, out=out), setting.device, repeats=setting.sizes.repeats
    )
    report.measure(f"product in {precision}", 2 * side**3 / seconds / 1e12, "TFLOP/s")
