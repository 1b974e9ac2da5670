"""The frozen CLIP: hidden states of both towers, taken from their residual streams.

States are taken before the final LayerNorm and projection, as R²-Tuning §3.1 does. Nothing here
writes files. Videos are untrusted, so they are decoded in a process that can be killed.
Both towers stay in memory in full: for ViT-B/32 that is 0.6 GB.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8

from r2t.extract.clip.embedding import EmbeddingHeads, EncodedFrames, find_heads
from r2t.extract.clip.frame_encoder import FrameEncoder
from r2t.extract.clip.hardware import (
    AUTO,
    pick_clip_device,
    pick_precision,
    set_clip_arithmetic,
    shrink_weights,
)
from r2t.extract.clip.matching import ClipOptions, ClipOrigin, MadeFeatures
from r2t.extract.clip.one_pass import open_one_pass
from r2t.extract.clip.query_encoder import QueryEncoder
from r2t.extract.clip.towers import Towers, build_towers
from r2t.extract.clip.weights import (
    Announce,
    ModelSource,
    find_model,
    find_weights,
    load_weights,
    weights_digest,
)
from r2t.extract.config import (
    DEFAULT_FRAME_RATE_FPS,
    DEFAULT_MODEL,
    DEFAULT_NUM_LAYERS,
    LayerChoice,
    resolve_layers,
)
from r2t.extract.video import DecodePool
from r2t.store.compatibility import require_compatible
from r2t.store.errors import ConfigError
from r2t.store.features import FrameSource, QueryFeatures, VideoFeatures
from r2t.store.progress import OnProgress, no_progress
from r2t.store.schema import EmbeddingSpec, FeatureSpec, StorageDtype

_DEFAULTS = ClipOptions()


class FrozenClip:
    """A CLIP model that turns frames and sentences into what a store keeps: tokens and embeddings.

    `model` and `pretrained` name what was loaded; `weights_sha256` identifies the weights.
    `heads` make embeddings of last layers; where the model has none, they are a text that says why.
    """

    def __init__(
        self,
        towers: Towers,
        source: ModelSource,
        *,
        pretrained: str,
        layers: tuple[tuple[int, ...], tuple[int, ...]],
        precision: str,
        batch_size: int | None,
        pool: DecodePool | None = None,
    ) -> None:
        """Use `load` or `matching` instead."""
        self.model = source.name
        self.location = source.location
        self.pretrained = pretrained
        self.precision = precision
        self.vision_layers, self.text_layers = layers
        self.towers = towers
        self.device = next(towers.network.parameters()).device
        self.weights_sha256 = weights_digest(towers.network)
        self.heads = find_heads(towers)
        shrink_weights(towers.network, precision)
        self.queries = QueryEncoder(
            towers,
            source,
            weights_sha256=self.weights_sha256,
            layers=self.text_layers,
            precision=precision,
            heads=self.heads,
        )
        self.text_width = self.queries.text_width
        self.frames = FrameEncoder(
            towers,
            self.model,
            layers=self.vision_layers,
            precision=precision,
            heads=self.heads,
            batch_size=batch_size,
        )
        self.image_size, self.mean, self.std = towers.preprocessing()
        self.num_tokens, self.vision_width = self.frames.num_tokens, self.frames.width
        if pool is None:
            pool = DecodePool()
            weakref.finalize(self, pool.close)
        self._pool = pool

    @classmethod
    def load(  # noqa: PLR0913 - all but the first three are rarely given
        cls,
        name: str = DEFAULT_MODEL,
        pretrained: str | None = None,
        layers: LayerChoice = DEFAULT_NUM_LAYERS,
        *,
        device: str | torch.device | None = None,
        precision: str = AUTO,
        batch_size: int | None = None,
        offline: bool = False,
        announce: Announce = lambda source, num_bytes: None,
        pool: DecodePool | None = None,
    ) -> FrozenClip:
        """Load a CLIP by open_clip's name, `r2t-demo`, or a folder in open_clip's format.

        `pretrained` is a tag, a weight file, or "none" for random weights from seed 0; None means
        "openai", or a folder's own weights. `device` None takes a GPU if there is one. `precision`
        "auto" is float16 there and float32 on a CPU. `batch_size` None fits the free memory, and
        shrinks where that proves too much. `announce` is called before a download begins. `pool`
        decodes videos; by default one process, started with the first video and kept.

        Raises:
            ConfigError: if there is no such model, weights, device or layer, or the weights are
                neither here nor can be downloaded.
        """
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"batch size {batch_size}: must be at least 1")
        target = pick_clip_device(device)
        precision = pick_precision(precision, target)
        set_clip_arithmetic(precision)
        source = find_model(name)
        weights = find_weights(source, pretrained)
        towers = build_towers(source, weights.settings)
        resolved = resolve_layers(
            layers, vision_depth=towers.vision_depth, text_depth=towers.text_depth
        )
        load_weights(towers.network, weights, offline=offline, announce=announce)
        towers.network.eval().requires_grad_(requires_grad=False).to(target)
        return cls(
            towers,
            source,
            pretrained=weights.label,
            layers=resolved,
            precision=precision,
            batch_size=batch_size,
            pool=pool,
        )

    @classmethod
    def matching(
        cls,
        features: FeatureSpec | MadeFeatures,
        options: ClipOptions = _DEFAULTS,
        *,
        cls_suffices: bool = False,
        pool: DecodePool | None = None,
    ) -> FrozenClip:
        """Load the CLIP that features were made with, and prove that it is the one.

        `features` is a store, a `Grounder` that was trained on one, or a bare `FeatureSpec`, which
        does not say where weights are: its model's usual ones are tried. `options` say where else
        to look. With `cls_suffices` features of CLS tokens alone are as good as those of all.

        Raises:
            SpecMismatchError: if the weights found are others.
            ConfigError: as `load` does.
        """
        origin = ClipOrigin.of(features, options)
        spec = origin.spec
        same_depth = spec.vision_layers == spec.text_layers
        clip = cls.load(
            origin.model,
            origin.pretrained,
            spec.vision_layers if same_depth else spec.num_layers,
            device=options.device,
            offline=options.offline,
            announce=options.announce,
            pool=pool,
        )
        if cls_suffices and spec.num_tokens == 1:
            spec = replace(spec, num_tokens=clip.num_tokens)
        clip.require_made(spec)
        return clip

    def require_made(self, spec: FeatureSpec) -> None:
        """Check that features of a spec are what this CLIP makes.

        Raises:
            SpecMismatchError: if they are not.
        """
        require_compatible(
            spec,
            self.spec(spec.frame_rate, spec.dtype),
            action=f"use {self.model}/{self.pretrained} for features of another CLIP",
            names=("the features", f"{self.model}/{self.pretrained}"),
        )

    def spec(
        self,
        frame_rate: float | Literal["per-video"] = DEFAULT_FRAME_RATE_FPS,
        dtype: StorageDtype = "float16",
    ) -> FeatureSpec:
        """Return the identity of features made with this model."""
        return FeatureSpec(
            model=self.model,
            weights_sha256=self.weights_sha256,
            vision_layers=self.vision_layers,
            text_layers=self.text_layers,
            frame_rate=frame_rate,
            num_tokens=self.num_tokens,
            vision_width=self.vision_width,
            text_width=self.text_width,
            image_size=self.image_size,
            mean=self.mean,
            std=self.std,
            dtype=dtype,
        )

    @property
    def batch_size(self) -> int:
        """How many frames the vision tower sees at a time; halved where memory ran out."""
        return self.frames.batch_size

    @property
    def embedding(self) -> EmbeddingSpec | None:
        """What its embeddings are, None if it has none."""
        return self.heads.spec if isinstance(self.heads, EmbeddingHeads) else None

    def provenance(self) -> dict[str, Any]:
        """Return what is worth recording beside the identity, for people to read."""
        packages = ("r2-tuning", "torch", "open_clip_torch", "av", "pillow", "numpy")
        facts: dict[str, Any] = {
            "model": self.location,
            "pretrained": self.pretrained,
            "precision": self.precision,
            "device": str(self.device),
            "packages": {package: version(package) for package in packages},
        }
        if self.pretrained == "none":
            facts["warning"] = "random weights from seed 0: good for trying out, not for results"
        return facts

    def encode_frames(self, pixels: UInt8[np.ndarray, "frames 3 rows columns"]) -> EncodedFrames:
        """Encode RGB pictures of `image_size`; see `FrameEncoder.encode`."""
        return self.frames.encode(pixels)

    def encode_queries(
        self, texts: Sequence[str], ids: Sequence[str], *, may_be_empty: Collection[str] = ()
    ) -> list[QueryFeatures]:
        """Return the hidden states of sentences; see `QueryEncoder.encode_queries`."""
        return self.queries.encode_queries(
            texts, ids, batch_size=self.batch_size, may_be_empty=may_be_empty
        )

    def encode_query(self, text: str) -> QueryFeatures:
        """Return the hidden states of one sentence; its id is 12 hex digits of its SHA-256.

        Raises:
            AnnotationError: if the sentence is empty.
        """
        return self.queries.encode_query(text)

    def open_video(
        self,
        path: str | Path,
        frame_rate_fps: float = DEFAULT_FRAME_RATE_FPS,
        *,
        on_frames: OnProgress = no_progress,
    ) -> AbstractContextManager[FrameSource]:
        """Open a video file of any length, to be decoded and encoded in one pass as it is read.

        Its id is its file's stem. `on_frames` is called with how many frames of how many are
        encoded so far.

        Raises:
            VideoError: here or while reading, if the file cannot be decoded.
        """
        return open_one_pass(
            Path(path),
            frame_rate_fps,
            pool=self._pool,
            image_size=self.image_size,
            encode=self.encode_frames,
            on_frames=on_frames,
        )

    def encode_video(
        self, path: str | Path, frame_rate_fps: float = DEFAULT_FRAME_RATE_FPS
    ) -> VideoFeatures:
        """Decode and encode one whole video; its id is its file's stem.

        Holds all its features in memory: 307 kB a frame for four layers of ViT-B/32.

        Raises:
            VideoError: if the file cannot be decoded.
        """
        with self.open_video(path, frame_rate_fps) as source:
            return source.read(slice(0, source.num_frames))
