"""What the sections work on: the device, and sizes that fill a GPU or a second of a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from r2t.train.devices import pick_device
from r2t.train.model.config import R2Config


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of features, model, batches and stores."""

    num_layers: int
    num_frames: int
    num_tokens: int
    vision_width: int
    text_width: int
    width: int
    num_heads: int
    num_words: int  # of the longest query: as many as no level of the pyramid has cells
    long_num_frames: int  # of a video that is longer than any batch
    batch_sizes: tuple[int, ...]  # of steps, largest first
    reference_batch: int  # of what is computed in float64 on the CPU
    num_videos: int  # of a store
    ring_batch: int
    repeats: int  # of a measurement
    matrix_side: int
    copy_bytes: int
    clip_seconds: int  # of a rendered film
    num_clips: int
    num_pictures: int  # encoded on both devices

    def model(self, **changes: object) -> R2Config:
        """Return a model for these features."""
        return R2Config(
            **{
                "num_layers": self.num_layers,
                "vision_width": self.vision_width,
                "text_width": self.text_width,
                "width": self.width,
                "num_heads": self.num_heads,
                **changes,
            }
        )


FULL = Sizes(
    num_layers=4,
    num_frames=75,  # QVHighlights at 0.5 fps, ViT-B/32
    num_tokens=50,
    vision_width=768,
    text_width=512,
    width=256,
    num_heads=8,
    num_words=20,
    long_num_frames=2000,
    batch_sizes=(128, 32),
    reference_batch=4,
    num_videos=32,
    ring_batch=16,
    repeats=7,
    matrix_side=8192,
    copy_bytes=2**31,
    clip_seconds=40,
    num_clips=16,
    num_pictures=64,
)
SMALL = Sizes(
    num_layers=2,
    num_frames=12,
    num_tokens=5,
    vision_width=16,
    text_width=16,
    width=16,
    num_heads=2,
    num_words=5,
    long_num_frames=48,
    batch_sizes=(4, 2),
    reference_batch=3,
    num_videos=6,
    ring_batch=4,
    repeats=2,
    matrix_side=64,
    copy_bytes=2**16,
    clip_seconds=4,
    num_clips=2,
    num_pictures=6,
)


@dataclass(frozen=True)
class Setting:
    """Where a section works, and on what. Stores and films of all sections lie in `folder`."""

    device: torch.device
    small: bool
    folder: Path

    @classmethod
    def of(cls, device: str, *, small: bool, folder: Path) -> Setting:
        """Take a device by its name, as the commands of r2t do."""
        chosen = pick_device(device)
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)  # events and streams are of the current one
        return cls(chosen, small, folder)

    @property
    def sizes(self) -> Sizes:
        """How large everything is."""
        return SMALL if self.small else FULL

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    def check_device(self) -> None:
        """Raise what CUDA has to complain about, if anything."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
