"""In which order an epoch visits its samples: seeded, exact, the same however it is read.

"uniform": an epoch is so many passes over the samples, each shuffled anew, so that no batch holds
a sample twice.

"joint" is the official order: the passes of an epoch are shuffled together and cut into batches,
which may hold a sample more than once, each time with another positive frame. Of QVHighlights' four
passes over 7,218 queries at 128 a batch that makes 226 batches, where "uniform" has 228, four of
them short.

"video" is for features that are slow to move. Up to four queries of a video share a batch, which
then holds the video once; batches are filled with videos of similar length, so that little of them
is padding; and the passes of an epoch are taken batch by batch, all of one batch in a row, each
with its own positive frames and dropout, so that its bytes move once. The price is in the
gradients: samples of a batch resemble each other more, so do consecutive steps, and the
contrastive losses get negatives of the same video. Four, and not all, because the queries of a
long video would fill whole batches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from r2t.train.choices import SampleOrder

_Item = TypeVar("_Item")

SHARING_QUERIES = 4
_SORTED_BATCHES = 16  # videos are sorted by length among so many batches' worth, no further


@dataclass(frozen=True)
class Row:
    """A video as samples see it: cut to `num_frames`, which the annotations may bound."""

    video_id: str
    num_frames: int
    first_frame: int = 0


@dataclass(frozen=True)
class Step:
    """Samples of a batch, and how many times in a row it is given."""

    samples: list[int]
    times: int = 1


@dataclass(frozen=True, kw_only=True)
class EpochOrder:
    """What decides an epoch's order: `repeats` passes over the samples, drawn from `seed`."""

    seed: int = 0
    sampling: SampleOrder = "uniform"
    repeats: int = 1

    def num_steps(self, num_samples: int, batch_size: int) -> int:
        """Return how many batches an epoch has."""
        if self.sampling == "joint":
            return -(-num_samples * self.repeats // batch_size)
        return -(-num_samples // batch_size) * self.repeats

    def passes(
        self, epoch: int, rows: Sequence[Row], batch_size: int
    ) -> Iterator[tuple[list[Step], np.random.Generator]]:
        """Yield an epoch's steps over samples, given by their rows, with what to draw labels from.

        Labels have to be drawn in the order of the steps.
        """
        if self.sampling == "video":
            generator = np.random.default_rng([self.seed, epoch])
            yield video_epoch(rows, batch_size, self.repeats, generator), generator
            return
        if self.sampling == "joint":
            generator = np.random.default_rng([self.seed, epoch])
            yield joint_passes(len(rows), batch_size, self.repeats, generator), generator
            return
        for number in range(epoch * self.repeats, (epoch + 1) * self.repeats):
            generator = np.random.default_rng([self.seed, number])
            yield uniform_pass(len(rows), batch_size, generator), generator


def uniform_pass(num_samples: int, batch_size: int, generator: np.random.Generator) -> list[Step]:
    """Shuffle all samples into batches, the last one possibly smaller."""
    order = generator.permutation(num_samples).tolist()
    return [Step(samples) for samples in _cut(order, batch_size)]


def joint_passes(
    num_samples: int, batch_size: int, repeats: int, generator: np.random.Generator
) -> list[Step]:
    """Shuffle so many passes over all samples into batches, the last one possibly smaller."""
    order = generator.permutation(num_samples * repeats) % max(1, num_samples)
    return [Step(samples) for samples in _cut(order.tolist(), batch_size)]


def video_epoch(
    rows: Sequence[Row], batch_size: int, repeats: int, generator: np.random.Generator
) -> list[Step]:
    """Shuffle samples, given by the rows they read, into batches that share and pad little."""
    groups: defaultdict[Row, list[int]] = defaultdict(list)
    for sample in generator.permutation(len(rows)).tolist():
        groups[rows[sample]].append(sample)
    sharing = min(SHARING_QUERIES, max(1, batch_size // 2))
    pieces = [piece for group in groups.values() for piece in _cut(group, sharing)]
    pieces = [pieces[index] for index in generator.permutation(len(pieces))]
    order: list[int] = []
    num_sorted = max(1, _SORTED_BATCHES * batch_size * len(pieces) // max(1, len(rows)))
    for stretch in _cut(pieces, num_sorted):
        stretch.sort(key=lambda piece: rows[piece[0]].num_frames)
        order += [sample for piece in stretch for sample in piece]
    batches = list(_cut(order, batch_size))
    return [Step(batches[index], repeats) for index in generator.permutation(len(batches))]


def share_of(samples: list[_Item], rank: int, num_ranks: int) -> list[_Item]:
    """Return the part of a batch that a rank computes: consecutive samples, as even as can be."""
    sizes = share_sizes(len(samples), num_ranks)
    start = sum(sizes[:rank])
    return samples[start : start + sizes[rank]]


def share_sizes(num_samples: int, num_ranks: int) -> list[int]:
    """Return how many samples of a batch each rank computes; the first ranks take the rest."""
    each, more = divmod(num_samples, num_ranks)
    return [each + (rank < more) for rank in range(num_ranks)]


def _cut(items: Sequence[_Item], size: int) -> Iterator[list[_Item]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
