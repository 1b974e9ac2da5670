"""The features that a store keeps, and where those of a video come from.

Plain numpy and dataclasses, without torch or zarr: extraction makes them, training reads them, and
neither needs the other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from r2t.store.errors import ConfigError
from r2t.store.legal import is_positive, require_embedding
from r2t.store.quantize import dequantize

EmbeddingOrigin = Literal["frames", "tokens", ""]


@dataclass(frozen=True, kw_only=True)
class VideoSource:
    """Where a video's features came from; recorded beside them, never used to read them."""

    name: str
    num_bytes: int
    sha256: str
    decoder: str
    licence: str | None = None


@dataclass(frozen=True, eq=False)
class VideoFeatures:
    """CLIP tokens of the frames sampled from one video.

    `tokens` is float16 [layers, frames, tokens, width], or int8 of that shape with `scale` and
    `offset` float32 [layers, width], meaning x ≈ q · scale + offset. `embedding` is float16
    [frames, embedding_width], of unit length, made from what `embedding_from` says: the decoded
    frames in float32, or the stored tokens.
    """

    video_id: str
    tokens: NDArray[Any]
    duration_seconds: float
    frame_rate_fps: float
    scale: NDArray[np.float32] | None = None
    offset: NDArray[np.float32] | None = None
    source: VideoSource | None = None
    embedding: NDArray[np.float16] | None = None
    embedding_from: EmbeddingOrigin = ""

    def __post_init__(self) -> None:
        if not self.video_id:
            raise ConfigError("video_id is empty")
        if self.tokens.ndim != 4 or 0 in self.tokens.shape:
            raise ConfigError(
                f"{self.video_id}: {self.tokens.shape = }, expected [layers, frames, tokens, width]"
            )
        if self.tokens.dtype not in (np.dtype("<f2"), np.dtype("i1")):
            raise ConfigError(f"{self.video_id}: {self.tokens.dtype = }, expected float16 or int8")
        affine_shape = (self.tokens.shape[0], self.tokens.shape[3])
        for name, affine in (("scale", self.scale), ("offset", self.offset)):
            if (affine is not None) != (self.tokens.dtype == np.int8):
                raise ConfigError(f"{self.video_id}: int8 tokens, and only those, need {name}")
            if affine is not None and affine.shape != affine_shape:
                raise ConfigError(
                    f"{self.video_id}: {name} has shape {affine.shape}, expected {affine_shape}"
                )
        for name in ("duration_seconds", "frame_rate_fps"):
            if not is_positive(getattr(self, name)):
                raise ConfigError(f"{self.video_id}: {name} = {getattr(self, name)}, must be > 0")
        self._require_embedding()

    def _require_embedding(self) -> None:
        if self.embedding is not None:
            shape = (self.num_frames, *(self.embedding.shape[-1:] or (1,)))
            require_embedding(self.embedding, shape, self.video_id)
        if self.embedding_from not in (("",) if self.embedding is None else ("frames", "tokens")):
            raise ConfigError(
                f"{self.video_id}: embedding_from = {self.embedding_from!r}: must be 'frames' or "
                "'tokens' beside an embedding, and empty without"
            )

    def __repr__(self) -> str:
        return (
            f"VideoFeatures({self.video_id!r}, tokens={self.tokens.dtype}{list(self.tokens.shape)},"
            f" {self.duration_seconds:g} s at {self.frame_rate_fps:g} fps)"
        )

    @property
    def num_frames(self) -> int:
        """Number of sampled frames."""
        return int(self.tokens.shape[1])

    def to_dict(self) -> dict[str, Any]:
        """Return what describes the features as JSON values, without the tokens themselves."""
        return {
            "video_id": self.video_id,
            "duration_seconds": self.duration_seconds,
            "frame_rate_fps": self.frame_rate_fps,
            "num_frames": self.num_frames,
            "shape": list(self.tokens.shape),
            "dtype": str(self.tokens.dtype),
            "source": None if self.source is None else dataclasses.asdict(self.source),
        }

    def decoded(self) -> NDArray[Any]:
        """Return the tokens as numbers: float16 as stored, float32 if they are eight-bit codes."""
        if self.scale is None or self.offset is None:
            return self.tokens
        return dequantize(self.tokens, self.scale, self.offset)


@dataclass(frozen=True, eq=False)
class FrameSource:
    """A video whose features are read a piece at a time, whether stored or made meanwhile.

    `read` returns the features of consecutive frames; it is called with slices whose starts ascend,
    so that a decoder can serve it in one pass.
    """

    video_id: str
    num_frames: int
    duration_seconds: float
    frame_rate_fps: float
    read: Callable[[slice], VideoFeatures]


@dataclass(frozen=True, eq=False)
class QueryFeatures:
    """CLIP tokens of one sentence: float16 [layers, words, text_width], from start to end token.

    `embedding` is float16 [embedding_width], of unit length.
    """

    query_id: str
    tokens: NDArray[np.float16]
    embedding: NDArray[np.float16] | None = None

    def __post_init__(self) -> None:
        if self.tokens.ndim != 3 or 0 in self.tokens.shape:
            raise ConfigError(
                f"{self.query_id}: {self.tokens.shape = }, expected [layers, words, text_width]"
            )
        if self.tokens.dtype != np.dtype("<f2"):
            raise ConfigError(f"{self.query_id}: {self.tokens.dtype = }, expected float16")
        if self.embedding is not None:
            shape = self.embedding.shape[-1:] or (1,)
            require_embedding(self.embedding, shape, self.query_id)

    def __repr__(self) -> str:
        return f"QueryFeatures({self.query_id!r}, tokens=float16{list(self.tokens.shape)})"

    def to_dict(self) -> dict[str, Any]:
        """Return what describes the features as JSON values, without the tokens themselves."""
        return {"query_id": self.query_id, "shape": list(self.tokens.shape), "dtype": "float16"}
