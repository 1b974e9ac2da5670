"""Which processor the trained model runs on, and how exactly that computes."""

from __future__ import annotations

import torch

from r2t.store.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """Return a device that works here; "auto" takes the first GPU, or the CPU without one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        found = ["auto", "cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise ConfigError(
            f"device {name!r} cannot be used ({reason}); this machine has {', '.join(found)}"
        ) from error
    return device


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
