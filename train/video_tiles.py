"""Tiles: which frames of which videos to work on at a time, and reading their tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

# Rows of a tile: 6 MB of float32 at CLIP's width mostly stay in a processor's shared cache and keep
# its cores busy; a GPU needs far more to do at a time.
ROWS_IN_TILE = 1900
ROWS_IN_GPU_TILE = 65536


def frames_in_tile(tokens: Tensor) -> int:
    """Return how many frames of these tokens to work on at a time."""
    rows = ROWS_IN_TILE if tokens.device.type == "cpu" else ROWS_IN_GPU_TILE
    return max(1, rows // tokens.shape[-2])


class Tile(NamedTuple):
    """Frames of some videos, which as many queries each ask about; a video may occur twice."""

    videos: list[int]
    frames: slice
    queries: list[list[int]]  # of each of the videos
    num_words: int
    padded: bool  # some of the queries have fewer words


def plan_tiles(
    asked: Sequence[tuple[int, list[int]]],
    num_frames: Sequence[int],
    num_words: Sequence[int],
    max_frames: int,
) -> Iterator[Tile]:
    """Cut videos and the queries asked about them into tiles of at most `max_frames` frames.

    Neighbours with as many queries share a tile, padded to the longest, if they fit whole; a longer
    video is cut into windows. Both lengths are by query.
    """
    first = 0
    while first < len(asked):
        last, longest = first, 0
        while last < len(asked) and len(asked[last][1]) == len(asked[first][1]):
            padded = max(longest, num_frames[asked[last][1][0]])
            if last > first and padded * (last + 1 - first) > max_frames:
                break
            last, longest = last + 1, padded
        videos = [video for video, _ in asked[first:last]]
        queries = [group for _, group in asked[first:last]]
        words = {num_words[query] for group in queries for query in group}
        for start in range(0, longest, max_frames):
            frames = slice(start, min(start + max_frames, longest))
            yield Tile(videos, frames, queries, max(words), padded=len(words) > 1)
        first = last


@dataclass(frozen=True, eq=False)
class VideoTokens:
    """Frozen tokens of videos as they are stored; eight-bit codes come with scale and offset.

    `times`, if the model uses them, are appended to every token of a frame.
    """

    tokens: Tensor  # [videos, layers, frames, tokens, width]
    affine: Tensor | None  # [videos, 2, layers, width]
    times: Tensor | None  # [videos, frames, 2]

    def read(self, layer: int, tile: Tile, dtype: torch.dtype) -> Tensor:
        """Copy a tile's tokens into one buffer [videos, frames, tokens, width], to compute in."""
        videos = as_slice(tile.videos)
        stored = self.tokens[videos, layer, tile.frames]
        num_times = 0 if self.times is None else self.times.shape[-1]
        width = stored.shape[-1]
        buffer = stored.new_empty(*stored.shape[:-1], width + num_times, dtype=dtype)
        features = buffer[..., :width].copy_(stored)
        if self.affine is not None:
            scale, offset = self.affine[videos, :, layer, None, None].unbind(1)
            features.mul_(scale).add_(offset)
        if self.times is not None:
            buffer[..., width:] = self.times[videos, tile.frames, None]
        return buffer


def as_slice(places: list[int]) -> slice | list[int]:
    """Prefer a view to a gathered copy."""
    first = places[0]
    consecutive = places == list(range(first, first + len(places)))
    return slice(first, first + len(places)) if consecutive else places
