"""Tiles: which frames of which videos to work on at a time, and reading their tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

# Float32 tokens of a tile: so many mostly stay in a processor's shared cache and keep its cores
# busy, at any width; a GPU needs far more to do at a time.
BYTES_IN_TILE = 5_840_000
BYTES_IN_GPU_TILE = 200_000_000

Places = slice | Tensor  # in the first dimension of a tensor


def frames_in_tile(tokens: Tensor) -> int:
    """Return how many frames of these tokens to work on at a time."""
    num_bytes = BYTES_IN_TILE if tokens.device.type == "cpu" else BYTES_IN_GPU_TILE
    return max(1, num_bytes // (4 * tokens.shape[-2] * tokens.shape[-1]))


class Tile(NamedTuple):
    """Frames of some videos, which as many queries each ask about; a video may occur twice."""

    videos: list[int]
    frames: slice
    queries: list[list[int]]  # of each of the videos
    num_words: int  # of the longest query


def plan_tiles(
    asked: Sequence[tuple[int, list[int]]],
    num_frames: Sequence[int],
    num_words: Sequence[int],
    max_frames: int,
) -> Iterator[Tile]:
    """Cut videos and the queries asked about them into tiles of at most `max_frames` frames.

    Videos with as many queries share a tile, padded to the longest, if they fit whole; a longer
    video is cut into windows. Both lengths are by query.
    """
    asked = sorted(asked, key=lambda video: len(video[1]))
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
        words = max(num_words[query] for group in queries for query in group)
        for start in range(0, longest, max_frames):
            frames = slice(start, min(start + max_frames, longest))
            yield Tile(videos, frames, queries, words)
        first = last


@dataclass(frozen=True, eq=False)
class VideoTokens:
    """Frozen tokens of videos as they are stored; eight-bit codes come with scale and offset.

    `times`, if the model uses them, are appended to every token of a frame.
    """

    tokens: Tensor  # [videos, layers, frames, tokens, width]
    affine: Tensor | None  # [videos, 2, layers, width]
    times: Tensor | None  # [videos, frames, 2]

    def part(self, layers: slice, tokens: slice) -> VideoTokens:
        """Return some layers, and some tokens of each frame, without a copy."""
        return VideoTokens(
            self.tokens[:, layers, :, tokens],
            None if self.affine is None else self.affine[:, :, layers],
            self.times,
        )

    def read(self, layer: int, videos: Places, frames: slice, dtype: torch.dtype) -> Tensor:
        """Copy a tile's tokens into one buffer [videos, frames, tokens, width], to compute in."""
        stored = _take(self.tokens[:, layer, frames], videos)
        num_times = 0 if self.times is None else self.times.shape[-1]
        width = stored.shape[-1]
        buffer = stored.new_empty(*stored.shape[:-1], width + num_times, dtype=dtype)
        features = buffer[..., :width].copy_(stored)
        if self.affine is not None:
            scale, offset = _take(self.affine[:, :, layer, None, None], videos).unbind(1)
            features.mul_(scale).add_(offset)
        if self.times is not None:
            buffer[..., width:] = _take(self.times[:, frames, None], videos)
        return buffer


def _take(rows: Tensor, places: Places) -> Tensor:
    return rows[places] if isinstance(places, slice) else rows.index_select(0, places)


class PlacedTile(NamedTuple):
    """A tile and where its videos and their queries, video by video, are in tensors of a device."""

    tile: Tile
    videos: Places
    rows: Places


def place_tiles(tiles: Sequence[Tile], device: torch.device) -> list[PlacedTile]:
    """Locate tiles once for all layers and passes: one copy to the device, if there is any.

    Consecutive places are a slice, which gives a view instead of a gathered copy.
    """
    lists: list[list[int]] = []
    for tile in tiles:
        lists += tile.videos, [query for group in tile.queries for query in group]
    scattered = [places for places in lists if not _consecutive(places)]
    together = torch.tensor([p for places in scattered for p in places], dtype=torch.int64)
    copied = iter(together.to(device, non_blocking=True).split([len(each) for each in scattered]))
    located = [
        slice(places[0], places[0] + len(places)) if _consecutive(places) else next(copied)
        for places in lists
    ]
    return [
        PlacedTile(tile, videos, rows)
        for tile, videos, rows in zip(tiles, located[::2], located[1::2], strict=True)
    ]


def _consecutive(places: list[int]) -> bool:
    return places == list(range(places[0], places[0] + len(places)))
