"""Spatial pooling in tiles: the fast arithmetic, for training and evaluation."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from r2t.train.data import Batch
from r2t.train.model.config import R2Config
from r2t.train.model.feature_map import time_features
from r2t.train.model.padding import Extents
from r2t.train.model.questions import question_of
from r2t.train.model.r2_block import LayerFrames, LayerWeights
from r2t.train.model.tiled import VideoTokens, pool_patches


class TiledLook:
    """Read each video once for all of its queries, a tile of frames at a time.

    Unless `frames_in_tile` is given, a tile has as many frames as suit the device.
    """

    def __init__(
        self,
        config: R2Config,
        batch: Batch,
        extents: Extents,
        frames_in_tile: int | None = None,
    ) -> None:
        self.extents = extents
        self.frames_in_tile = frames_in_tile
        if extents.isolated:
            tokens, affine, lengths = batch.videos, batch.affine, batch.video_num_frames
            self.video_of_query: list[int] = batch.video_of_query.tolist()
            self.num_frames: list[int] = extents.num_frames.tolist()
        else:  # padding counts, so it must be zeros, which codes are not
            tokens, affine, lengths = batch.video, None, extents.time_lengths
            self.video_of_query = list(range(len(batch)))
            self.num_frames = [tokens.shape[2]] * len(batch)
        times = time_features(lengths, tokens.shape[2]) if config.temporal_features else None
        self.video = VideoTokens(tokens, affine, times)

    def __call__(
        self,
        weights: LayerWeights,
        words: Float[Tensor, "layers batch words hidden"],
        layers: slice = slice(None),
    ) -> tuple[LayerFrames, LayerFrames]:
        return pool_patches(
            self.video.part(layers, weights.pooling.tokens),
            self.video_of_query,
            self.num_frames,
            question_of(weights.pooling, words, self.extents.competing_words),
            weights.video_map.weights(),
            weights.video_map.dropout.p if weights.training else 0.0,
            self.frames_in_tile,
        )
