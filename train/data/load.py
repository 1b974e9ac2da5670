"""What a batch is made of: which videos to read, and what to make of them once they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from r2t.store.errors import R2TError
from r2t.store.schema import FeatureSpec
from r2t.store.video_reader import StoredVideo
from r2t.train.data.batch import Batch
from r2t.train.data.ring import Arena, aligned
from r2t.train.data.sampling import Row


@dataclass(frozen=True, eq=False)
class Loaded:
    """What was read for a batch.

    `stored` is what each of its videos is, or why it cannot be read; such a one is zeros.
    `affine` are the scales and offsets of eight-bit codes. `hold` brings small tensors of the batch
    to the others, to be copied with them.
    """

    videos: Tensor
    stored: list[StoredVideo | R2TError]
    affine: Tensor | None
    num_read_bytes: int
    queries: tuple[Tensor, Tensor]
    hold: Callable[[Tensor], Tensor]

    def known(self) -> list[StoredVideo]:
        """Return what the videos are, where a reader raises if one cannot be read."""
        return [video for video in self.stored if isinstance(video, StoredVideo)]


@runtime_checkable
class Load(Protocol):
    """A batch that is to be read."""

    @property
    def rows(self) -> list[Row]:
        """Its videos, each once."""
        ...

    @property
    def num_frames(self) -> int:
        """What they are padded to."""
        ...

    def read_queries(self, arena: Arena) -> tuple[Tensor, Tensor]:
        """Return the queries' tokens, padded, and their numbers of words; a thread calls it."""
        ...

    def finish(self, loaded: Loaded) -> list[Batch]:
        """Return the batches that these features make, one for each of their labels."""
        ...


def rest_bytes(spec: FeatureSpec, num_queries: int, num_words: int) -> int:
    """Return what so many queries of up to so many words, and their affines, take at most."""
    sizes = [2 * num_queries * spec.num_layers * num_words * spec.text_width]
    sizes += 3 * [8 * num_queries]  # their numbers of words and frames, and their videos
    if spec.dtype == "int8":
        sizes.append(4 * num_queries * 2 * spec.num_layers * spec.vision_width)
    return sum(map(aligned, sizes))


def pad_queries(
    tokens: Sequence[NDArray[np.float16]], arena: Arena, longest: int = 0
) -> tuple[Tensor, Tensor]:
    """Stack queries [layers, words, width] with zeros after the shorter ones; count their words.

    The `longest` may be of more words than any of them.
    """
    num_words = [query.shape[1] for query in tokens]
    layers, _, width = tokens[0].shape
    longest = max(longest, *num_words)
    padded = arena.take((len(tokens), layers, longest, width), torch.float16)
    for place, query in zip(padded.numpy(), tokens, strict=True):
        place[:, : query.shape[1]] = query
        place[:, query.shape[1] :] = 0
    return padded, torch.tensor(num_words)
