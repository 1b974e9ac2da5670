"""The picture half of the frozen CLIP: frames become tokens, without any sentence."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from r2t.extract.clip.embedding import EmbeddingHeads, EncodedFrames
from r2t.extract.clip.hardware import autocast, fitting_batch_size
from r2t.extract.clip.lanes import open_lane
from r2t.extract.clip.towers import Towers
from r2t.store.errors import ConfigError, is_gpu_fault


class FrameEncoder:
    """A CLIP's vision tower, asked in batches that fit the memory of its device.

    `num_tokens` and `width` are those of a frame. `batch_size` is that of the next call: where it
    was not given, it is halved when memory does not suffice.
    """

    def __init__(
        self,
        towers: Towers,
        model: str,
        *,
        layers: tuple[int, ...],
        precision: str,
        heads: EmbeddingHeads | str,
        batch_size: int | None,
    ) -> None:
        """Use `FrozenClip.load`. `batch_size` None fits the free memory."""
        self.layers = layers
        self.image_size, mean, std = towers.preprocessing()
        self._visual = towers.visual
        self._depth = towers.vision_depth
        self._device = next(towers.network.parameters()).device
        self._precision = precision
        self._head = heads.image if isinstance(heads, EmbeddingHeads) else None
        self._statistics = torch.tensor([mean, std], device=self._device).view(2, 3, 1, 1)
        self._lane = open_lane(self._device)
        self._may_shrink, self.batch_size = batch_size is None, batch_size or 1
        blank = np.zeros((1, 3, self.image_size, self.image_size), np.uint8)
        try:
            _, _, self.num_tokens, self.width = self.encode(blank).tokens.shape
        except (AttributeError, TypeError, KeyError, RuntimeError, AssertionError) as error:
            if is_gpu_fault(error):
                raise
            raise ConfigError(
                f"{model} cannot serve as the frozen CLIP: its vision tower gives no hidden "
                f"states of a picture: {error}"
            ) from error
        if batch_size is None:
            self.batch_size = fitting_batch_size(self._device, self._frame_bytes())

    @torch.inference_mode()
    def encode(self, pixels: UInt8[np.ndarray, "frames 3 rows columns"]) -> EncodedFrames:
        """Encode RGB pictures of `image_size`: tokens CLS first, layers ascending; embeddings.

        Raises:
            ConfigError: if the pictures have another shape, or there is no memory for a batch.
        """
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
                        f"{self._device} has no memory for batches of {batch_size} frames: "
                        "lower the batch size"
                    ) from error
                # Not of what another thread has made of it, which met the same end.
                self.batch_size = min(self.batch_size, batch_size // 2)

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
        widths = 16 + len(self.layers)
        scores = self.num_tokens**2 * max(1, self.width // 64)
        return 4 * (self.num_tokens * self.width * widths + scores + 6 * self.image_size**2)

    def _encode_pictures(self, pixels: UInt8[Tensor, "frames 3 rows columns"]) -> EncodedFrames:
        mean, std = self._statistics
        # Eight bits cross the bus, and become floats on the other side.
        pictures = self._lane.send(pixels).float().div_(255).sub_(mean).div_(std)
        layers = self.layers
        if self._head is not None:  # which reads the last layer, whether that is kept or not
            layers = tuple(sorted({*layers, self._depth}))
        with autocast(self._device, self._precision):
            output = self._visual.forward_intermediates(
                pictures,
                indices=[layer - 1 for layer in layers],
                stop_early=True,
                intermediates_only=True,
                output_fmt="NLC",
                output_extra_tokens=True,
            )
        prefixes, patches = output["image_intermediates_prefix"], output["image_intermediates"]
        kept = slice(len(self.layers))
        states = [
            torch.cat([prefix, patch], dim=1).half()
            for prefix, patch in zip(prefixes[kept], patches[kept], strict=True)
        ]
        embedding = None
        if self._head is not None:
            embedding = self._lane.fetch(self._head(prefixes[-1][:, 0]).half()).numpy()
        return EncodedFrames(self._lane.fetch(torch.stack(states)).numpy(), embedding)
