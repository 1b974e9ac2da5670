"""What CLIP runs on: the device, its arithmetic, and how many frames it takes at a time.

The device and the arithmetic of the trained model are chosen in `r2t.train.devices`: extract and
train share no module that knows torch, since neither may need the other.
"""

from __future__ import annotations

from typing import Any

import torch
from open_clip.model import convert_weights_to_lp
from torch import nn

from r2t.store.errors import ConfigError
from r2t.store.machine import available_bytes, unusable_device

AUTO = "auto"
_DTYPES = {"float32": None, "tf32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}
_SHORT = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}

# On a CPU more frames at once are no faster, and in float32 slower, because they leave the caches
# (ViT-B/32, two cores: 19 frames/s at 8 and at 16, 16 at 64). A GPU wants enough to fill it.
_CPU_FRAMES, _GPU_FRAMES = 16, 128
_SHARE = {"cpu": 0.5, "cuda": 0.25}  # of the free memory for a batch: a GPU has two at a time


def pick_clip_device(device: str | torch.device | None) -> torch.device:
    """Return a device that CLIP can run on here; None takes a GPU if there is one."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        num_gpus = torch.cuda.device_count()
        raise ConfigError(unusable_device(str(device), error, num_gpus)) from error
    return chosen


def pick_precision(precision: str, device: torch.device) -> str:
    """Return one of float32, tf32, float16, bfloat16; "auto": float16 on a GPU, else float32.

    float16 holds three bits more than bfloat16 at the same speed, and it is what the store holds.
    """
    if precision == AUTO:
        return "float16" if device.type == "cuda" else "float32"
    chosen = _SHORT.get(precision, precision)
    if chosen not in _DTYPES:
        raise ConfigError(
            f"precision {precision!r}: must be one of {', '.join((AUTO, *_DTYPES, *_SHORT))}"
        )
    if chosen == "tf32" and device.type != "cuda":
        raise ConfigError(f"precision 'tf32' needs an NVIDIA GPU, the device is {device}")
    return chosen


def set_clip_arithmetic(precision: str) -> None:
    """Make GPUs compute CLIP in the precision asked for, and the same bits every time.

    By default torch computes the patch embedding of float32 in TF32, and sums products of half
    precision in half precision. The setting holds for the whole process; a CPU needs none.
    """
    tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a model computes in a precision."""
    dtype = _DTYPES[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def shrink_weights(network: nn.Module, precision: str) -> None:
    """Keep the weights of matrix products in the precision they are used in.

    Autocast would convert them again for every batch: on a CPU that takes half of the time.
    """
    dtype: Any = _DTYPES[precision]
    if dtype is not None:
        convert_weights_to_lp(network, dtype)


def fitting_batch_size(device: torch.device, frame_bytes: int) -> int:
    """Return how many frames to encode at a time, if each needs `frame_bytes` of memory."""
    most = _GPU_FRAMES if device.type == "cuda" else _CPU_FRAMES
    free = free_bytes(device)
    if free is None:
        return most
    return max(1, min(most, int(_SHARE.get(device.type, 0.5) * free / frame_bytes)))


def free_bytes(device: torch.device) -> int | None:
    """Return how much memory can still be had on a device, or None where nobody says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_bytes()
