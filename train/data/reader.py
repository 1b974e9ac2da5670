"""From a store to batches: a store's queries, labelled for training or in order for evaluation.

Each video is in a batch once, for all its queries there. Memory is a ring of a few batches, kept
from epoch to epoch, so a batch is valid until the next is asked for: `Batch.clone` keeps one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from r2t.store.annotations import Annotation
from r2t.store.errors import ConfigError
from r2t.store.feature_store import FeatureStore
from r2t.store.video_reader import StoredVideo
from r2t.train.choices import PositiveRule
from r2t.train.data.batch import (
    Batch,
    Labels,
    Targets,
    collate_labels,
    float64_seconds,
)
from r2t.train.data.labels import BoundQuery, select_items
from r2t.train.data.prior import Prior, PriorReader, pad_priors
from r2t.train.data.query_reader import QueryReader
from r2t.train.data.reading import Reading
from r2t.train.data.ring import Arena, BufferSize, aligned, pad_queries, rest_bytes
from r2t.train.data.row_reader import Loaded, RowReader
from r2t.train.data.sampling import EpochOrder, Row, Step, share_of, share_sizes


class FeatureReader:
    """Batches of a store's queries; labelled for training if `positive` is given.

    Annotations whose video the store lacks are left out, and counted in one `AnnotationWarning`;
    so are the moments that had to be clamped or widened to fit the frames, and videos shorter than
    `min_duration_seconds`. With `prior`, batches have it, which needs embeddings in the store.

    Raises:
        ConfigError: if the store has none.
    """

    def __init__(
        self,
        store: FeatureStore,
        annotations: Sequence[Annotation],
        *,
        batch_size: int,
        positive: PositiveRule | None = None,
        min_duration_seconds: float = 0.0,
        prior: bool = False,
        order: EpochOrder | None = None,
        reading: Reading | None = None,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size = {batch_size}: must be positive")
        self._store = store
        self._batch_size = batch_size
        self._order = order or EpochOrder()
        self._reading = reading or Reading()
        self._items = select_items(store, annotations, positive, min_duration_seconds)
        self._rows = [item.row for item in self._items]
        self._reader = RowReader(store, self._reading)
        self._queries = QueryReader(store)
        self._priors = PriorReader(store, self._queries) if prior else None
        self._rest_bytes = self._most_rest_bytes()
        if self._reading.cache is not None:
            frame_bytes = store.spec.frame_bytes()
            self._reading.cache.reserve({row: row.num_frames * frame_bytes for row in self._rows})

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self._order.num_steps(len(self._items), self._batch_size)

    @property
    def annotations(self) -> list[Annotation]:
        """What is read, in the order given."""
        return [item.annotation for item in self._items]

    @property
    def most_frames(self) -> int:
        """Frames of a full batch, padded to the longest video."""
        return self._batch_size * self._longest

    @property
    def _longest(self) -> int:
        return max((row.num_frames for row in self._rows), default=0)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield an epoch, or the rest of it from batch `start`; it depends on seed and number."""
        passes = list(self._order.passes(number, self._rows, self._batch_size))
        num_loads = sum(len(steps) for steps, _ in passes)
        size = BufferSize(aligned(self._most_videos_bytes(passes)), self._rest_bytes)
        return self._reader.read(self._labelled(passes, start), num_loads, size)

    def in_order(self) -> Iterator[Batch]:
        """Yield a pass in the order given, without labels, for evaluation.

        Of several processes each gets the batches of its own part.
        """
        mine = share_of(list(range(len(self._items))), self._reading.rank, self._reading.num_ranks)
        loads: list[_Load] = []
        for first in range(0, len(mine), self._batch_size):
            items = [self._items[index] for index in mine[first : first + self._batch_size]]
            longest = max(item.row.num_frames for item in items)
            loads.append(_Load(self._queries, items, longest, priors=self._priors))
        largest = max((self._videos_bytes(load) for load in loads), default=0)
        # Each process takes full batches of its part, where those of an epoch are shared.
        rest = self._query_bytes(self._batch_size)
        return self._reader.read(iter(loads), len(loads), BufferSize(aligned(largest), rest))

    def _labelled(
        self, passes: list[tuple[list[Step], np.random.Generator]], start: int
    ) -> Iterator[_Load]:
        for steps, generator in passes:
            for step in steps:
                # Drawn here, in order, so that reading ahead and starting late change nothing.
                labels = [self._draw(step.samples, generator) for _ in range(step.times)]
                skipped = min(start, step.times)
                start -= skipped
                if skipped < step.times:
                    yield self._load(step.samples, labels[skipped:])

    def _draw(self, samples: list[int], generator: np.random.Generator) -> list[Labels]:
        bindings = [self._items[sample].binding for sample in samples]
        return [binding.draw(generator) for binding in bindings if binding is not None]

    @cached_property
    def _num_words(self) -> dict[str, int]:
        table = self._store.queries
        return dict(zip(table["query_id"], map(int, table["num_words"]), strict=True))

    def _load(self, samples: list[int], labels: list[list[Labels]]) -> _Load:
        """Take this process's part of a batch, padded as the whole of it is."""
        num_frames = max(self._rows[sample].num_frames for sample in samples)
        if self._reading.num_ranks == 1:
            items = [self._items[sample] for sample in samples]
            return _Load(self._queries, items, num_frames, labels, priors=self._priors)
        counts = tuple(share_sizes(len(samples), self._reading.num_ranks))
        own = share_of(samples, self._reading.rank, self._reading.num_ranks) or samples[:1]
        items = [self._items[sample] for sample in own]
        words = max(self._num_words[self._items[s].annotation.query_id] for s in samples)
        return _Load(self._queries, items, num_frames, labels, counts, words, self._priors)

    def _most_videos_bytes(self, passes: list[tuple[list[Step], np.random.Generator]]) -> int:
        """Return what the videos of an epoch's batches take at most.

        Shuffled batches come near to what any of them can take, so that room is made for that once
        and for all epochs. In the other order that can be four times as much as any will take:
        where the buffers have no room for it, the epoch decides.
        """
        num_rows = min(self._own_size, len(set(self._rows)))
        largest = num_rows * self._longest * self._store.spec.frame_bytes()
        held_bytes = (self._reading.prefetch + 1) * (largest + self._rest_bytes)
        if self._order.sampling != "video" or held_bytes <= self._reading.buffer_gb * 1e9:
            return largest
        loads = (self._load(step.samples, []) for steps, _ in passes for step in steps)
        return max((self._videos_bytes(load) for load in loads), default=0)

    def _videos_bytes(self, load: _Load) -> int:
        return len(load.rows) * load.num_frames * self._store.spec.frame_bytes()

    @property
    def _own_size(self) -> int:
        """Queries of a full batch that this process computes, at most."""
        return share_sizes(self._batch_size, self._reading.num_ranks)[0]

    def _most_rest_bytes(self) -> int:
        """Return what any batch of an epoch takes at most besides its videos."""
        bound = [item.binding for item in self._items if item.binding is not None]
        num_moments = max([1, *(len(binding.moments) for binding in bound)])
        times = self._order.repeats if self._order.sampling == "video" else 1
        whole = self._batch_size  # targets are those of all processes
        targets = (8 * whole * num_moments, 8 * whole, 4 * whole * self._longest, 8 * whole)
        return self._query_bytes(self._own_size) + times * sum(map(aligned, targets))

    def _query_bytes(self, num_queries: int) -> int:
        """Return what so many queries take at most, and their priors where those are read."""
        num_words = max(self._num_words.values(), default=1)
        prior_frames = self._longest if self._priors else 0
        return rest_bytes(self._store.spec, num_queries, num_words, prior_frames)


@dataclass(frozen=True)
class _Load:
    """One batch to read; each of `labels` makes a batch of it, without labels one does."""

    queries: QueryReader
    items: list[BoundQuery]
    num_frames: int
    labels: list[list[Labels]] = field(default_factory=list)
    rank_counts: tuple[int, ...] = ()
    longest_words: int = 0  # of the whole batch, where this is a part of it
    priors: PriorReader | None = None

    @property
    def rows(self) -> list[Row]:
        """The distinct rows, in order of first use."""
        return list(self._asking)

    def read_queries(self, arena: Arena) -> tuple[Tensor, Tensor]:
        """Return the queries' padded tokens and their numbers of words."""
        tokens = [self.queries.read(item.annotation.query_id).tokens for item in self.items]
        return pad_queries(tokens, arena, self.longest_words)

    def read_priors(self, row: Row, stored: StoredVideo) -> list[Prior] | None:
        """Return those of its queries that ask about a row, in their order."""
        return None if self.priors is None else self.priors.read(row, self._asking[row])

    @cached_property
    def _asking(self) -> dict[Row, list[str]]:
        asking: dict[Row, list[str]] = {}
        for item in self.items:
            asking.setdefault(item.row, []).append(item.annotation.query_id)
        return asking

    def finish(self, loaded: Loaded) -> list[Batch]:
        """Return the batch with each of its labels."""
        row_index = {row: index for index, row in enumerate(self.rows)}
        video_of_query = [row_index[item.row] for item in self.items]
        known = loaded.known()
        stored = [known[index] for index in video_of_query]
        query, num_words = loaded.queries
        batch = Batch(
            query_ids=tuple(item.annotation.query_id for item in self.items),
            videos=loaded.videos,
            video_of_query=torch.tensor(video_of_query),
            num_frames=torch.tensor([item.row.num_frames for item in self.items]),
            query=query,
            num_words=num_words,
            durations_seconds=float64_seconds(
                [
                    item.annotation.end_of_answers(video.duration_seconds)
                    for item, video in zip(self.items, stored, strict=True)
                ]
            ),
            frame_rates_fps=float64_seconds([video.frame_rate_fps for video in stored]),
            affine=loaded.affine,
            prior=self._prior(loaded, video_of_query),
            num_read_bytes=loaded.num_read_bytes,
            rank_counts=self.rank_counts,
        ).map(loaded.hold)
        if not self.labels:
            return [batch]
        again = replace(batch, num_read_bytes=0)
        targets = [self._targets(labels, loaded.hold) for labels in self.labels]
        return [
            replace(again if number else batch, targets=each) for number, each in enumerate(targets)
        ]

    def _prior(self, loaded: Loaded, video_of_query: list[int]) -> Tensor | None:
        if self.priors is None:
            return None
        given = [iter(priors or ()) for priors in loaded.priors]
        return pad_priors([next(given[index]) for index in video_of_query], self.num_frames)

    def _targets(self, labels: list[Labels], hold: Callable[[Tensor], Tensor]) -> Targets | None:
        return collate_labels(labels, self.num_frames).map(hold) if labels else None
