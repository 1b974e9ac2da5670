"""What is kept of a video so that each further sentence costs less, and of a window once asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float16
from torch import Tensor

from r2t.store.errors import ConfigError
from r2t.train.grounding.windows import WindowedVideo
from r2t.train.model import Refined


@dataclass(frozen=True, eq=False)
class PreparedWindow:
    """What a model makes of some frames before it sees any query, on the model's device.

    `embedding` is CLIP's, for a model with a prior. At the default width of 256 `patches` take two
    thirds of the memory of ViT-B's float16 features: 15 MB for 150 seconds at 0.5 fps.
    """

    patches: Float[Tensor, "layers frames tokens hidden"]
    duration_seconds: float
    frame_rate_fps: float
    embedding: Float16[np.ndarray, "frames embedding"] | None = None

    @property
    def num_frames(self) -> int:
        """Number of sampled frames."""
        return self.patches.shape[1]


@dataclass(frozen=True, eq=False)
class PreparedVideo:
    """A video of any length, prepared for queries in every window that it is asked in."""

    video_id: str
    windowed: WindowedVideo
    parts: list[PreparedWindow]

    @property
    def num_frames(self) -> int:
        """Number of sampled frames."""
        return self.windowed.num_frames

    @property
    def duration_seconds(self) -> float:
        """How long the video is."""
        return self.windowed.duration_seconds

    @property
    def num_windows(self) -> int:
        """In how many windows it is asked."""
        return len(self.parts)

    def __repr__(self) -> str:
        return (
            f"PreparedVideo({self.video_id!r}, {self.num_frames} frames, "
            f"windows={self.num_windows}, {self.duration_seconds:g} s "
            f"at {self.windowed.frame_rate_fps:g} fps)"
        )


@dataclass(frozen=True, eq=False)
class RefinedWindow:
    """What queries have in a window, some of them in each of `parts`, before it is decoded.

    It does not keep the window's patches.
    """

    parts: list[Refined]
    num_frames: int
    duration_seconds: float
    frame_rate_fps: float
    embedding: Float16[np.ndarray, "frames embedding"] | None

    @property
    def known_embedding(self) -> Float16[np.ndarray, "frames embedding"]:
        """CLIP's embedding of the frames.

        Raises:
            ConfigError: if the window was prepared without, by a model that takes no prior.
        """
        if self.embedding is None:
            raise ConfigError(
                "the video was prepared by a model without a prior: prepare it with the one to ask"
            )
        return self.embedding
