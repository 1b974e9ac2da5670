"""How the features of a store were made: what must be equal before stores or runs are combined."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, cast

from r2t.store.errors import ConfigError, SpecMismatchError, StoreError
from r2t.store.legal import is_count, is_finite, is_positive

FORMAT_VERSION = 2
PER_VIDEO = "per-video"
UNKNOWN_WEIGHTS = "r2-npy"  # in place of a digest: the released features say nothing of them
CLIP_PROJECTION = "clip-projection-unit"  # how embeddings are made: CLIP's own, of unit length
StorageDtype = Literal["float16", "int8"]
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
