"""What a feature store holds: the spec that features were made with, and the features themselves.

This is the one data model that extraction and training share. Plain numpy and dataclasses: no torch
and no zarr, so that either side can be read without the other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from r2t.store.errors import ConfigError, SpecMismatchError, StoreError
from r2t.store.legal import is_count, is_finite, is_positive, require_embedding
from r2t.store.quantize import dequantize

FORMAT_VERSION = 2
PER_VIDEO = "per-video"
UNKNOWN_WEIGHTS = "r2-npy"  # in place of a digest: the released features say nothing of them
CLIP_PROJECTION = "clip-projection-unit"  # how embeddings are made: CLIP's own, of unit length
StorageDtype = Literal["float16", "int8"]
EmbeddingOrigin = Literal["frames", "tokens", ""]
# Fields of the identity that format version 1 and runs of its time lack: their default is meant.
SINCE_VERSION_2 = ("prefix", "grid", "text_rule")
# What a person types to choose a field of the spec.
OPTIONS = {
    "frame_rate": "--fps",
    "dtype": "--dtype",
    "model": "--model",
    "weights_sha256": "--pretrained (weights_sha256)",
    "vision_layers": "--layers (vision)",
    "text_layers": "--layers (text)",
}


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """How features were made: two stores with equal identities can be mixed, others never.

    Layers are CLIP hidden states in ascending order, 0 = after the embedding, 12 = after the last
    block of a ViT-B. `frame_rate` is sampled frames per second, or "per-video". `num_tokens` counts
    CLS and patches (50 for ViT-B/32; 1 in a store of CLS tokens alone). Images are resized to
    `image_size` by the rule that `resize` names, then normalised by `mean` and `std`. `prefix` says
    what token 0 is, `grid` how the patches lie, `text_rule` which tokens of a sentence are kept.
    """

    model: str
    weights_sha256: str
    vision_layers: tuple[int, ...]
    text_layers: tuple[int, ...]
    frame_rate: float | Literal["per-video"]
    num_tokens: int
    vision_width: int
    text_width: int
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    dtype: StorageDtype = "float16"
    sampling: str = "last-before-slot-centre"
    resize: str = "short-side-bicubic-antialias-centre-crop"
    prefix: str = "cls"
    grid: str = "native"
    text_rule: str = "start-to-end-cut-at-context"

    def __post_init__(self) -> None:
        for name in ("vision_layers", "text_layers"):
            layers = getattr(self, name)
            whole = all(is_count(layer) for layer in layers)
            if not layers or not whole or list(layers) != sorted(set(layers)):
                raise ConfigError(f"{name} = {layers}: give distinct ascending layers from 0 up")
        if len(self.vision_layers) != len(self.text_layers):
            raise ConfigError(
                f"{len(self.vision_layers)} vision and {len(self.text_layers)} text layers: "
                "the R² Block pairs them one to one, so give as many of each"
            )
        for name in ("num_tokens", "vision_width", "text_width", "image_size"):
            if not is_count(getattr(self, name)) or getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)!r}: must be a positive integer")
        if self.dtype not in ("float16", "int8"):
            raise ConfigError(f"dtype = {self.dtype!r}: must be 'float16' or 'int8'")
        if self.frame_rate != PER_VIDEO and not is_positive(self.frame_rate):
            raise ConfigError(
                f"frame_rate = {self.frame_rate!r}: give frames per second or {PER_VIDEO!r}"
            )
        self._require_texts_and_colours()

    def _require_texts_and_colours(self) -> None:
        for name in ("model", "weights_sha256", "sampling", "resize", *SINCE_VERSION_2):
            if not isinstance(getattr(self, name), str):
                raise ConfigError(f"{name} = {getattr(self, name)!r}: must be a text")
        for name, legal in (("mean", is_finite), ("std", is_positive)):
            values = getattr(self, name)
            if len(values) != 3 or not all(legal(value) for value in values):
                raise ConfigError(f"{name} = {values!r}: give a legal number for each of R, G, B")

    @property
    def num_layers(self) -> int:
        """Number K of stored layers."""
        return len(self.vision_layers)

    def frame_bytes(self) -> int:
        """Bytes that one sampled frame takes in the store."""
        itemsize = 2 if self.dtype == "float16" else 1
        return self.num_layers * self.num_tokens * self.vision_width * itemsize

    def to_dict(self) -> dict[str, Any]:
        """Return the identity as JSON-ready values."""
        return {
            key: list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, identity: dict[str, Any]) -> FeatureSpec:
        """Read what `to_dict` wrote, also before `SINCE_VERSION_2`; else raise `StoreError`."""
        expected = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(identity) - expected):
            raise StoreError(
                f"the identity of the features has fields that this r2t does not know "
                f"({', '.join(unknown)}): it was written by a newer r2t; install that"
            )
        if missing := sorted(expected - set(identity) - set(SINCE_VERSION_2)):
            raise StoreError(
                f"the identity of the features lacks {', '.join(missing)}: it is damaged"
            )
        values: dict[str, Any] = {
            key: tuple(cast("list[Any]", value)) if isinstance(value, list) else value
            for key, value in identity.items()
        }
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise StoreError(f"the store's identity is not legal: {error}") from error

    def require_equal(
        self, other: FeatureSpec, *, action: str, names: tuple[object, object]
    ) -> None:
        """Raise `SpecMismatchError` naming every field in which `other` differs.

        `action` completes the sentence "cannot …", such as "resume this store"; `names` says whose
        settings these are, and whose the other's.
        """
        mine, theirs = self.to_dict(), other.to_dict()
        differing = [
            f"{OPTIONS.get(key, key)}: {mine[key]!r} in {names[0]}, {theirs[key]!r} in {names[1]}"
            for key in mine
            if mine[key] != theirs[key]
        ]
        if differing:
            raise SpecMismatchError(f"cannot {action}: " + "; ".join(differing))


@dataclass(frozen=True)
class EmbeddingSpec:
    """Which embeddings lie beside the tokens of each frame and sentence; no part of the identity.

    `rule` names how they are made: "clip-projection-unit" are CLIP's final ones, of unit length.
    """

    width: int
    rule: str = CLIP_PROJECTION

    def __post_init__(self) -> None:
        if not is_count(self.width) or self.width < 1:
            raise ConfigError(f"embedding width = {self.width!r}: must be a positive integer")
        if self.rule != CLIP_PROJECTION:
            raise ConfigError(f"embedding rule = {self.rule!r}: must be {CLIP_PROJECTION!r}")


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
