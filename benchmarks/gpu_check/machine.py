"""What the other sections run on."""

from __future__ import annotations

import importlib.util
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from gpu_check.report import Report
from gpu_check.setting import Setting
from r2t.store.machine import allowed_cores, available_bytes

NEEDED = ("av", "zarr", "numcodecs", "open_clip_torch")


def run(setting: Setting, report: Report) -> None:
    """Name the device, the versions, and which r2t it is."""
    report.note("processor", f"{platform.machine()}, {allowed_cores()} cores")
    memory = available_bytes()
    if memory is not None:
        report.measure("memory free on the host", memory / 1e9, "GB")
    report.note("python", platform.python_version())
    report.note("torch", f"{torch.__version__}, CUDA {torch.version.cuda}")
    if setting.on_gpu:
        facts = torch.cuda.get_device_properties(setting.device)
        report.note("device", f"{facts.name}, {facts.total_memory / 1e9:.0f} GB")
        report.note("cuDNN", str(torch.backends.cudnn.version()))
    for package in NEEDED:
        report.note(package, version(package))
    found = importlib.util.find_spec("r2t.train")
    assert found is not None
    assert found.origin is not None
    report.note("r2t", f"{version('r2-tuning')} in {Path(found.origin).parent.parent}")
