"""Writing one video's tokens: window by window, in whole shards, with the digest last."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from r2t.store.errors import ConfigError
from r2t.store.format import (
    FeatureDigest,
    TokenLayout,
    create_array,
    open_group,
    read_tokens,
    storage_errors,
)
from r2t.store.quantize import Affine, ErrorSummary, affine_range, dequantize, quantize
from r2t.store.schema import FeatureSpec, VideoSource


class VideoWriter:
    """Takes one video's tokens window by window and writes whole shards.

    Holds one shard, and at the end one layer of all frames.
    """

    def __init__(
        self,
        folder: Path,
        spec: FeatureSpec,
        video_id: str,
        num_frames: int,
        *,
        affine: Affine | None = None,
    ) -> None:
        """Start a video; with `affine`, its tokens come as codes of those scales and offsets."""
        self._folder = folder
        self._spec = spec
        self._video_id = video_id
        self.source: VideoSource | None = None
        self._affine = affine
        self._final_layout = TokenLayout.of(spec, num_frames)
        # int8 needs the whole video's range first, so its float16 tokens are staged first.
        self._staged = spec.dtype == "int8" and affine is None
        self._name = "staged" if self._staged else "tokens"
        self._layout = self._final_layout
        if self._staged:
            self._layout = replace(self._layout, dtype=np.dtype("<f2"))
        with storage_errors(folder):
            self._group = open_group(str(folder), "w-")
            self._array = self._create(self._name, self._layout)
        self._shard = np.zeros(self._layout.shard_shape, self._layout.dtype)
        self._written = 0
        affine_shape = (spec.num_layers, spec.vision_width)
        self._lowest = np.full(affine_shape, np.inf, np.float32)
        self._highest = np.full(affine_shape, -np.inf, np.float32)

    def append(self, tokens: NDArray[np.float16]) -> None:
        """Add the next frames [layers, frames, tokens, width]: float16, or codes if so begun."""
        layout = self._layout
        legal = (
            layout.layers,
            tokens.shape[1] if tokens.ndim == 4 else -1,
            layout.tokens,
            layout.width,
        )
        if tokens.shape != legal or tokens.dtype != layout.dtype:
            raise ConfigError(
                f"{self._video_id}: {tokens.dtype}{list(tokens.shape)} given, "
                f"expected {layout.dtype}{list(legal)}"
            )
        if not np.isfinite(tokens).all():
            raise ConfigError(
                f"{self._video_id}: tokens hold NaN or infinity (float16 overflows above 65504); "
                "nothing was written"
            )
        if self._written + tokens.shape[1] > layout.frames:
            raise ConfigError(f"{self._video_id}: more frames than the {layout.frames} announced")
        taken = 0
        while taken < tokens.shape[1]:
            at = self._written % layout.shard_frames
            count = min(layout.shard_frames - at, tokens.shape[1] - taken)
            self._shard[:, at : at + count] = tokens[:, taken : taken + count]
            taken += count
            self._written += count
            if at + count == layout.shard_frames or self._written == layout.frames:
                self._write_shard()

    def finish(self, attributes: dict[str, Any]) -> str:
        """Write the attributes, digest among them, and return the digest."""
        if self._written != self._layout.frames:
            raise ConfigError(
                f"{self._video_id}: {self._written} frames written, {self._layout.frames} announced"
            )
        with storage_errors(self._folder):
            errors = self._finish_int8() if self._staged else {}
            if self._affine is not None:
                self._write_affine(self._affine)
            digest = self._digest(*(self._affine or ()))
            self._group.attrs.update({**attributes, **errors, "digest": digest})
        return digest

    def _write_shard(self) -> None:
        stop = self._written
        start = (stop - 1) // self._layout.shard_frames * self._layout.shard_frames
        frames = self._shard[:, : stop - start]
        if self._staged:
            self._lowest = np.minimum(self._lowest, frames.min(axis=(1, 2)))
            self._highest = np.maximum(self._highest, frames.max(axis=(1, 2)))
        with storage_errors(self._folder):
            self._array[:, start:stop] = frames

    def _finish_int8(self) -> dict[str, Any]:
        """Code what was staged and return what that cost, as an attribute."""
        staged_layout = self._layout
        scale, offset = affine_range(self._lowest, self._highest)
        self._layout = self._final_layout
        self._array = self._create("tokens", self._layout)
        errors = ErrorSummary(self._layout.layers)
        for each in staged_layout.shards():
            frames = range(each.start, each.stop)
            all_layers = range(staged_layout.layers)
            tokens = np.empty((staged_layout.layers, len(frames), *staged_layout.shape[2:]), "<f2")
            read_tokens(self._folder / self._name, staged_layout, all_layers, frames, tokens)
            codes = quantize(tokens, scale, offset)
            self._array[:, frames.start : frames.stop] = codes
            for layer in all_layers:  # one at a time, since this takes twelve times the codes' room
                one = slice(layer, layer + 1)
                decoded = dequantize(codes[one], scale[one], offset[one])
                errors.add(layer, tokens[layer], decoded[0])
        shutil.rmtree(self._folder / self._name)
        self._name, self._affine = "tokens", (scale, offset)
        return {"quantization_error": errors.to_dict()}

    def _write_affine(self, affine: Affine) -> None:
        for name, values in zip(("scale", "offset"), affine, strict=True):
            shape = values.shape
            array = create_array(self._group, name, shape=shape, dtype=values.dtype, chunks=shape)
            array[...] = values

    def _digest(self, *affine: NDArray[np.float32]) -> str:
        """Read the tokens back, layer by layer, so that the digest tells what the disk holds."""
        layout = self._layout
        digest = FeatureDigest(layout.dtype, layout.shape)
        folder, frames = self._folder / self._name, range(layout.frames)
        out = np.empty((1, *layout.shape[1:]), layout.dtype)
        for layer in range(layout.layers):
            read_tokens(folder, layout, range(layer, layer + 1), frames, out)
            digest.update(out)
        for values in affine:
            digest.update(values)
        return digest.finish()

    def _create(self, name: str, layout: TokenLayout) -> zarr.Array[Any]:
        return create_array(
            self._group,
            name,
            shape=layout.shape,
            dtype=layout.dtype,
            chunks=layout.chunk_shape,
            shards=layout.shard_shape,
            dimension_names=("layers", "frames", "tokens", "width"),
        )
