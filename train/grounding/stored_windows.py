"""Windows of stored videos, read ahead as the batches of a training are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from r2t.store.feature_store import FeatureStore
from r2t.store.schema import FeatureSpec
from r2t.store.video_reader import StoredVideo
from r2t.train.data import (
    Arena,
    Batch,
    BufferSize,
    Loaded,
    Reading,
    Row,
    RowReader,
    aligned,
    float64_seconds,
    pad_queries,
    require_embeddings,
    rest_bytes,
)
from r2t.train.grounding.grounder import Grounder
from r2t.train.grounding.prepared import PreparedWindow
from r2t.train.grounding.windows import WindowedVideo, WindowPlan
from r2t.train.model import Grounding


def ground_stored(
    grounder: Grounder,
    store: FeatureStore,
    asked: Mapping[str, Sequence[str]],
    plan: WindowPlan,
    reading: Reading,
) -> Iterator[list[Grounding]]:
    """Yield what each video of a store answers to its queries, as `Grounder.ground` finds it.

    The next windows are read while the model works on one, whichever videos they are of.
    """
    lengths = store.lengths()
    counts = [lengths.get(each) or store.video_row(each).num_frames for each in asked]
    windows = [plan.windows(count) for count in counts]
    if grounder.has_prior:
        require_embeddings(store)

    @cache
    def windowed(place: int, video_id: str) -> WindowedVideo:
        return WindowedVideo.of(replace(store.open_video(video_id), num_frames=counts[place]), plan)

    def loads() -> Iterator[_Load]:
        for place, video_id in enumerate(asked):
            video = windowed(place, video_id)
            for window in video.windows:
                yield _Load.of(store.spec, video_id, video, window)

    flat = [window.stop - window.start for cut in windows for window in cut]
    size = BufferSize(
        aligned(max(flat, default=0) * store.spec.frame_bytes()), rest_bytes(store.spec, 1, 1)
    )
    reader = RowReader(store, replace(reading, cache=None))
    parts = _prepared(grounder, reader.read(loads(), len(flat), size))
    for place, ((video_id, query_ids), cut) in enumerate(zip(asked.items(), windows, strict=True)):
        queries = [store.read_query(query_id) for query_id in query_ids]
        own = itertools.islice(parts, len(cut))
        embedding = store.read_embedding(video_id) if grounder.has_prior else None
        yield grounder.ground_windows(windowed(place, video_id), own, queries, embedding)


def _prepared(grounder: Grounder, batches: Iterator[Batch]) -> Iterator[PreparedWindow]:
    for batch in batches:
        yield grounder.prepare_tokens(
            batch.videos[0],
            None if batch.affine is None else batch.affine[0],
            batch.durations_seconds.item(),
            batch.frame_rates_fps.item(),
        )


@dataclass(frozen=True, eq=False)
class _Load:
    """One window; its batch has a blank query, since the window is prepared for any."""

    spec: FeatureSpec
    row: Row
    duration_seconds: float
    frame_rate_fps: float

    @classmethod
    def of(cls, spec: FeatureSpec, video_id: str, video: WindowedVideo, window: slice) -> _Load:
        """Describe a window of a video."""
        row = Row(video_id, window.stop - window.start, window.start)
        return cls(spec, row, video.window_seconds(window), video.frame_rate_fps)

    @property
    def rows(self) -> list[Row]:
        """The window."""
        return [self.row]

    @property
    def num_frames(self) -> int:
        """Its frames."""
        return self.row.num_frames

    def read_queries(self, arena: Arena) -> tuple[Tensor, Tensor]:
        """Return the blank."""
        blank = np.zeros((self.spec.num_layers, 1, self.spec.text_width), np.float16)
        return pad_queries([blank], arena)

    def read_priors(self, row: Row, stored: StoredVideo) -> None:
        """Read none: they are those of whole videos, and nobody has asked yet."""

    def finish(self, loaded: Loaded) -> list[Batch]:
        """Return the batch."""
        query, num_words = loaded.queries
        batch = Batch(
            query_ids=(self.row.video_id,),
            videos=loaded.videos,
            video_of_query=torch.zeros(1, dtype=torch.int64),
            num_frames=torch.tensor([self.row.num_frames]),
            query=query,
            num_words=num_words,
            durations_seconds=float64_seconds([self.duration_seconds]),
            frame_rates_fps=float64_seconds([self.frame_rate_fps]),
            affine=loaded.affine,
        )
        return [batch.map(loaded.hold)]
