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
from torch import Tensor

from r2t.extract.clip.embedding import EmbeddingHeads, EncodedFrames, find_heads
from r2t.extract.clip.hardware import (
    AUTO,
    autocast,
    fitting_batch_size,
    pick_clip_device,
    pick_precision,
    set_clip_arithmetic,
    shrink_weights,
)
from r2t.extract.clip.lanes import open_lane
from r2t.extract.clip.matching import ClipOptions, ClipOrigin, MadeFeatures
from r2t.extract.clip.one_pass import open_one_pass
from r2t.extract.clip.query_encoder import QueryEncoder
from r2t.extract.clip.towers import Towers, build_towers
from r2t.extract.clip.weights import (
    Announce,
    ModelSource,
    fetch,
    find_model,
    find_weights,
    load_into,
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
from r2t.store.errors import ConfigError, is_gpu_fault
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
        self.image_size, self.mean, self.std = towers.preprocessing()
        self._statistics = torch.tensor([self.mean, self.std], device=self.device).view(2, 3, 1, 1)
        self.queries = QueryEncoder(
            towers,
            source,
            weights_sha256=self.weights_sha256,
            layers=self.text_layers,
            precision=precision,
            heads=self.heads,
        )
        self.text_width = self.queries.text_width
        self._visual = towers.visual
        self._lane = open_lane(self.device)
        self._may_shrink, self.batch_size = batch_size is None, batch_size or 1
        blank = np.zeros((1, 3, self.image_size, self.image_size), np.uint8)
        try:
            _, _, self.num_tokens, self.vision_width = self.encode_frames(blank).tokens.shape
        except (AttributeError, TypeError, KeyError, RuntimeError, AssertionError) as error:
            if is_gpu_fault(error):
                raise
            raise ConfigError(
                f"{self.model} cannot serve as the frozen CLIP: its vision tower gives no hidden "
                f"states of a picture: {error}"
            ) from error
        if batch_size is None:
            self.batch_size = fitting_batch_size(self.device, self._frame_bytes())
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
        if weights.location is not None:
            path = fetch(weights, offline=offline, announce=announce)
            load_into(towers.network, path, weights.label)
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

    @torch.inference_mode()
    def encode_frames(self, pixels: UInt8[np.ndarray, "frames 3 rows columns"]) -> EncodedFrames:
        """Encode RGB pictures of `image_size`: tokens CLS first, layers ascending; embeddings."""
        side = self.image_size
        if pixels.shape[1:] != (3, side, side) or not len(pixels):
            raise ConfigError(f"{pixels.shape = }, expected [frames, 3, {side}, {side}]")
        while True:
            batch_size = self.batch_size
            try:
                return self._encode_batches(torch.from_numpy(pixels), batch_size)
            except torch.OutOfMemoryError as error:
                if batch_size == 1 or not self._may_shrink:
                    raise ConfigError(
                        f"{self.device} has no memory for batches of {batch_size} frames: "
                        "lower the batch size"
                    ) from error
                # Not of what another thread has made of it, which met the same end.
                self.batch_size = min(self.batch_size, batch_size // 2)

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

    def _encode_batches(
        self, pixels: UInt8[Tensor, "frames 3 rows columns"], batch_size: int
    ) -> EncodedFrames:
        with self._lane.work():
            parts = [self._encode_pictures(batch) for batch in pixels.split(batch_size)]
        return EncodedFrames.joined(parts)

    def _frame_bytes(self) -> int:
        """Return what one frame needs while it is encoded: the widest point of a block in float32.

        16 widths a token: the residual stream, queries, keys, values, and a hidden layer of four
        times the width before and after its activation; and the kept states beside them.
        """
        widths = 16 + len(self.vision_layers)
        scores = self.num_tokens**2 * max(1, self.vision_width // 64)
        return 4 * (self.num_tokens * self.vision_width * widths + scores + 6 * self.image_size**2)

    def _encode_pictures(self, pixels: UInt8[Tensor, "frames 3 rows columns"]) -> EncodedFrames:
        mean, std = self._statistics
        # Eight bits cross the bus, and become floats on the other side.
        pictures = self._lane.send(pixels).float().div_(255).sub_(mean).div_(std)
        heads = self.heads if isinstance(self.heads, EmbeddingHeads) else None
        layers = self.vision_layers
        if heads is not None:  # an embedding is made of the last layer, whether that is kept or not
            layers = tuple(sorted({*layers, self.towers.vision_depth}))
        with autocast(self.device, self.precision):
            output = self._visual.forward_intermediates(
                pictures,
                indices=[layer - 1 for layer in layers],
                stop_early=True,
                intermediates_only=True,
                output_fmt="NLC",
                output_extra_tokens=True,
            )
        prefixes, patches = output["image_intermediates_prefix"], output["image_intermediates"]
        kept = slice(len(self.vision_layers))
        states = [
            torch.cat([prefix, patch], dim=1).half()
            for prefix, patch in zip(prefixes[kept], patches[kept], strict=True)
        ]
        embedding = None
        if heads is not None:
            embedding = self._lane.fetch(heads.image(prefixes[-1][:, 0]).half()).numpy()
        return EncodedFrames(self._lane.fetch(torch.stack(states)).numpy(), embedding)
