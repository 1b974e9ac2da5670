"""Writing one video's tokens: window by window, in whole shards, with the digest last."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from r2t.store.errors import ConfigError
from r2t.store.layout import FeatureDigest
from r2t.store.nodes import create_array, open_group
from r2t.store.quantize import affine_range, quantize
from r2t.store.schema import FeatureSpec
from r2t.store.shards import TokenLayout, read_tokens


class VideoWriter:
    """Takes one video's tokens window by window and writes whole shards."""

    def __init__(self, folder: Path, spec: FeatureSpec, video_id: str, num_frames: int) -> None:
        if num_frames < 1:
            raise ConfigError(f"{video_id}: num_frames = {num_frames}, must be at least 1")
        self._folder = folder
        self._spec = spec
        self._video_id = video_id
        self._layout = TokenLayout(
            spec.num_layers, num_frames, spec.num_tokens, spec.vision_width, np.dtype("<f2")
        )
        self._group = open_group(str(folder), "w-")
        # int8 needs the whole video's range first, so its float16 tokens are staged beside the run.
        self._name = "tokens" if spec.dtype == "float16" else "staged"
        self._array = self._create(self._name, self._layout)
        self._run = np.zeros(self._layout.shard_shape, np.dtype("<f2"))
        self._written = 0

    def append(self, tokens: NDArray[np.float16]) -> None:
        """Add the next frames: float16 [layers, frames, tokens, width]."""
        layout = self._layout
        legal = (
            layout.layers,
            tokens.shape[1] if tokens.ndim == 4 else -1,
            layout.tokens,
            layout.width,
        )
        if tokens.shape != legal or tokens.dtype != np.float16:
            raise ConfigError(
                f"{self._video_id}: {tokens.dtype}{list(tokens.shape)} given, "
                f"expected float16{list(legal)}"
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
            at = self._written % layout.run_frames
            count = min(layout.run_frames - at, tokens.shape[1] - taken)
            self._run[:, at : at + count] = tokens[:, taken : taken + count]
            taken += count
            self._written += count
            if at + count == layout.run_frames or self._written == layout.frames:
                self._write_run()

    def _write_run(self) -> None:
        stop = self._written
        start = (stop - 1) // self._layout.run_frames * self._layout.run_frames
        self._array[:, start:stop] = self._run[:, : stop - start]

    def finish(self, attributes: dict[str, Any]) -> str:
        """Write the attributes, digest among them, and return the digest."""
        if self._written != self._layout.frames:
            raise ConfigError(
                f"{self._video_id}: {self._written} frames written, {self._layout.frames} announced"
            )
        digest = self._finish_float16() if self._spec.dtype == "float16" else self._finish_int8()
        self._group.attrs.update({**attributes, "digest": digest})
        return digest

    def _finish_float16(self) -> str:
        digest = FeatureDigest(self._layout.dtype, self._layout.shape)
        for layer in range(self._layout.layers):
            digest.update(self._staged_layer(layer))
        return digest.finish()

    def _finish_int8(self) -> str:
        layout = TokenLayout(*self._layout.shape, dtype=np.dtype(np.int8))
        array = self._create("tokens", layout)
        bounds = [self._staged_layer(layer) for layer in range(layout.layers)]
        lowest = np.stack([tokens.min(axis=(0, 1)) for tokens in bounds]).astype(np.float32)
        highest = np.stack([tokens.max(axis=(0, 1)) for tokens in bounds]).astype(np.float32)
        scale, offset = affine_range(lowest, highest)
        codes = np.stack([quantize(tokens, scale[k], offset[k]) for k, tokens in enumerate(bounds)])
        array[...] = codes
        digest = FeatureDigest(layout.dtype, layout.shape)
        for values in (codes, scale, offset):
            digest.update(values)
        for name, values in (("scale", scale), ("offset", offset)):
            shape = values.shape
            affine = create_array(self._group, name, shape=shape, dtype=values.dtype, chunks=shape)
            affine[...] = values
        shutil.rmtree(self._folder / "staged")
        return digest.finish()

    def _staged_layer(self, layer: int) -> NDArray[np.float16]:
        out = np.empty((1, *self._layout.shape[1:]), np.dtype("<f2"))
        read_tokens(
            self._array,
            self._folder / self._name,
            self._layout,
            range(layer, layer + 1),
            range(self._layout.frames),
            out,
        )
        return out[0]

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
