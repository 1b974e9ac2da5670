"""Writing one video's tokens: window by window, in whole shards, with the digest last."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2t.store.errors import ConfigError, StoreError
from r2t.store.features import EmbeddingOrigin, VideoSource
from r2t.store.format import (
    VIDEO_DIMENSIONS,
    FeatureDigest,
    StoreHeader,
    TokenLayout,
    create_array,
    has_only_finite,
    locate_tokens,
    open_group,
    read_blocks,
    seal_attributes,
    storage_errors,
    write_embedding,
    write_shard,
)
from r2t.store.legal import require_embedding
from r2t.store.quantize import Affine, ChannelRange, Quantizer


class VideoWriter:
    """Takes one video's tokens window by window and writes whole shards.

    Holds one shard in float16, all embeddings and, where the store is int8, at the end its codes.
    """

    def __init__(
        self,
        folder: Path,
        header: StoreHeader,
        video_id: str,
        num_frames: int,
        *,
        affine: Affine | None = None,
        embedding_from: EmbeddingOrigin = "frames",
    ) -> None:
        """Start a video; with `affine`, its tokens come as codes of those scales and offsets."""
        spec = header.spec
        self._folder = folder
        self._header = header
        self._embedding_from: EmbeddingOrigin = embedding_from
        self._embeddings: list[NDArray[np.float16]] = []
        self._staging = folder / "staged"
        self._video_id = video_id
        self.source: VideoSource | None = None
        self._affine = affine
        self._final_layout = TokenLayout.of(spec, num_frames)
        # int8 needs the whole video's range first. So its float16 tokens are staged first: on the
        # disk, unless they are no more than the shard that is held anyway.
        self._range: ChannelRange | None = None
        self._layout = self._final_layout
        if spec.dtype == "int8" and affine is None:
            self._range = ChannelRange(spec.num_layers, spec.vision_width)
            self._layout = replace(self._layout, dtype=np.dtype("<f2"))
        with storage_errors(folder):
            self._group = open_group(str(folder), "w-")
            self._create_tokens()
        self._shard = np.zeros(self._layout.shard_shape, self._layout.dtype)
        self._written = 0

    def append(
        self, tokens: NDArray[np.float16], embedding: NDArray[np.float16] | None = None
    ) -> None:
        """Add the next frames [layers, frames, tokens, width]: float16, or codes if so begun.

        In a store with embeddings those of the same frames [frames, embedding_width] go with them.
        """
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
        if not has_only_finite(tokens):
            raise ConfigError(
                f"{self._video_id}: tokens hold NaN or infinity (float16 overflows above 65504); "
                "nothing was written"
            )
        if self._written + tokens.shape[1] > layout.frames:
            raise ConfigError(f"{self._video_id}: more frames than the {layout.frames} announced")
        self._take_embedding(embedding, tokens.shape[1])
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
            errors = {} if self._range is None else self._finish_int8(self._range)
            if self._affine is not None:
                self._write_affine(self._affine)
            digest = self._digest(*(self._affine or ()))
            whole = {**attributes, **errors, "digest": digest, **self._write_embedding()}
            self._group.update_attributes(seal_attributes(whole, self._header.format_version))
        return digest

    def _take_embedding(self, embedding: NDArray[np.float16] | None, num_frames: int) -> None:
        wanted = self._header.embedding
        if (embedding is None) != (wanted is None):
            raise ConfigError(
                f"{self._video_id}: the store holds an embedding of each frame, so give them with "
                "the tokens"
                if embedding is None
                else f"{self._video_id}: the store holds no embeddings, so give none"
            )
        if embedding is not None and wanted is not None:
            require_embedding(embedding, (num_frames, wanted.width), self._video_id)
            self._embeddings.append(embedding)

    def _write_embedding(self) -> dict[str, str]:
        """Write the embeddings, if the store has any; return what the attributes say of them."""
        if self._header.embedding is None:
            return {}
        return write_embedding(self._group, np.concatenate(self._embeddings), self._embedding_from)

    def _write_shard(self) -> None:
        number = (self._written - 1) // self._layout.shard_frames
        frames = self._shard[:, : self._written - number * self._layout.shard_frames]
        with storage_errors(self._folder):
            if self._range is None:
                write_shard(self._folder / "tokens", self._layout, number, frames)
                return
            self._range.add(frames)
            if self._layout.num_shards > 1:
                with self._staging.open("ab") as file:
                    file.write(self._shard.data)

    def _finish_int8(self, channel_range: ChannelRange) -> dict[str, Any]:
        """Code what was staged and return what that cost, as an attribute."""
        self._affine = channel_range.affine()
        quantizer = Quantizer(*self._affine)
        for number, frames in enumerate(self._layout.shards()):
            if self._layout.num_shards > 1:
                self._read_staged(number)
            codes = quantizer.encode(self._shard[:, : frames.stop - frames.start])
            write_shard(self._folder / "tokens", self._final_layout, number, codes)
        self._staging.unlink(missing_ok=True)
        return {"quantization_error": quantizer.errors()}

    def _read_staged(self, number: int) -> None:
        with self._staging.open("rb") as file:
            file.seek(number * self._shard.nbytes)
            if file.readinto(self._shard.data.cast("B")) != self._shard.nbytes:
                raise StoreError(f"{self._staging} was cut off; run the same command again")

    def _write_affine(self, affine: Affine) -> None:
        for name, values in zip(("scale", "offset"), affine, strict=True):
            shape = values.shape
            array = create_array(
                self._group,
                name,
                shape=shape,
                dtype=values.dtype,
                chunks=shape,
                dimension_names=VIDEO_DIMENSIONS[name],
            )
            array[...] = values

    def _digest(self, *affine: NDArray[np.float32]) -> str:
        """Read the tokens back, so that the digest tells what the disk holds."""
        layout = self._final_layout
        digest = FeatureDigest(layout.dtype, layout.shape)
        everything = range(layout.layers), range(layout.frames)
        for block in read_blocks(locate_tokens(self._folder / "tokens", layout, *everything)):
            digest.update(block)
        for values in affine:
            digest.update(values)
        return digest.finish()

    def _create_tokens(self) -> None:
        layout = self._final_layout
        create_array(
            self._group,
            "tokens",
            shape=layout.shape,
            dtype=layout.dtype,
            chunks=layout.chunk_shape,
            shards=layout.shard_shape,
            dimension_names=VIDEO_DIMENSIONS["tokens"],
        )
