"""Which processor the trained model runs on, and how exactly that computes."""

from __future__ import annotations

import torch

from r2t.store.errors import ConfigError
from r2t.store.machine import unusable_device
from r2t.train.choices import Precision


def pick_device(name: str) -> torch.device:
    """Return a device that works here; "auto" takes the first GPU, or the CPU without one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        num_gpus = torch.cuda.device_count()
        raise ConfigError(unusable_device(name, error, num_gpus)) from error
    return device


def mixed_dtype(device: torch.device, precision: Precision) -> torch.dtype | None:
    """Return what a device takes products in where a training is mixed, None if all is float32.

    A CPU has bfloat16 or nothing: without instructions for it, it would be slower than float32.
    """
    if device.type == "cuda":
        return {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(precision)
    return torch.bfloat16 if precision == "bfloat16" and cpu_has_bfloat16() else None


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16, as far as torch can tell."""
    ask = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return ask is not None and ask()


def set_arithmetic(precision: str = "float32") -> None:
    """Make GPUs compute in the precision asked for, and the same bits every time.

    By default torch computes float32 convolutions in TF32, sums products of half precision in half
    precision, and may choose other algorithms in every process. The setting holds for the whole
    process; a CPU needs none.
    """
    tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
