"""Ask every video of a store one question; CLIP's vision tower is not needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from r2t.store.errors import R2TError
from r2t.store.feature_store import FeatureStore
from r2t.store.features import QueryFeatures
from r2t.store.video_reader import StoredVideo
from r2t.train.data import (
    NUM_PRIORS,
    Arena,
    Batch,
    BufferSize,
    Loaded,
    Prior,
    Reading,
    Row,
    RowReader,
    aligned,
    embedding_of,
    float64_seconds,
    pad_priors,
    pad_queries,
    prior_features,
    require_embeddings,
    rest_bytes,
)
from r2t.train.grounding.answerer import Answerer
from r2t.train.grounding.grounder import Grounder
from r2t.train.grounding.stored_similarity import embedded_videos
from r2t.train.grounding.stored_windows import ground_each
from r2t.train.grounding.windows import WindowPlan
from r2t.train.model import Grounding, decode_predictions


@dataclass(frozen=True, eq=False)
class VideoAnswer:
    """What one video answers: a grounding, or why there is none."""

    video_id: str
    grounding: Grounding | None
    error: R2TError | None = None

    @property
    def score(self) -> float:
        """What ranks a video that has answered."""
        assert self.grounding is not None
        return self.grounding.video_score


def search_store(
    answerer: Answerer,
    store: FeatureStore,
    query: QueryFeatures,
    *,
    batch_size: int = 16,
    plan: WindowPlan | None = None,
) -> Iterator[VideoAnswer]:
    """Yield every video's answer as it is found; at most three batches are in memory.

    A trained model is asked in batches of videos of similar length. Those that `plan`, by default
    the run's, divides into windows are asked a window at a time, read ahead as well. Batching
    changes no answer. Without a trained model only embeddings are read.
    """
    if isinstance(answerer, Grounder):
        yield from _ask_model(answerer, store, query, batch_size, plan or answerer.plan())
        return
    rows = store.video_rows()
    for row, video in zip(rows, embedded_videos(store, rows), strict=True):
        if isinstance(video, R2TError):
            yield VideoAnswer(row.video_id, None, video)
        else:
            yield VideoAnswer(row.video_id, answerer(video, query))


def _ask_model(
    grounder: Grounder,
    store: FeatureStore,
    query: QueryFeatures,
    batch_size: int,
    plan: WindowPlan,
) -> Iterator[VideoAnswer]:
    """Ask short videos whole, then long ones in windows."""
    lengths = store.lengths()
    ordered = sorted(lengths, key=lambda video_id: (lengths[video_id], video_id))
    whole = [Row(video_id, lengths[video_id]) for video_id in ordered]
    whole = [row for row in whole if not plan.divides(row.num_frames)]
    yield from _ask_whole(grounder, store, whole, query, batch_size)
    long, reading = ordered[len(whole) :], Reading(device=grounder.device)
    answers = ground_each(grounder, store, long, lambda _: [query], plan, reading)
    for video_id, found in zip(long, answers, strict=True):
        if isinstance(found, R2TError):
            yield VideoAnswer(video_id, None, found)
        else:
            yield VideoAnswer(video_id, found[0])


def _ask_whole(
    grounder: Grounder,
    store: FeatureStore,
    rows: Sequence[Row],
    query: QueryFeatures,
    batch_size: int,
) -> Iterator[VideoAnswer]:
    """Ask videos that are short enough in batches, which are read ahead."""
    reading, frame_bytes = Reading(device=grounder.device), store.spec.frame_bytes()
    most_frames = int(reading.buffer_gb * 1e9 / (reading.prefetch + 1) / frame_bytes)
    if grounder.has_prior:
        require_embeddings(store)
    loads = [
        _Load(chosen, query, grounder.has_prior)
        for chosen in batches_of(rows, batch_size, most_frames)
    ]
    num_frames = max((len(load.rows) * load.num_frames for load in loads), default=0)
    longest = max((load.num_frames for load in loads), default=0) if grounder.has_prior else 0
    size = BufferSize(
        aligned(num_frames * frame_bytes),
        rest_bytes(store.spec, min(batch_size, len(rows)), query.tokens.shape[1], longest),
    )
    reader = RowReader(store, reading, tolerant=True)
    for load, batch in zip(loads, reader.read(iter(loads), len(loads), size), strict=True):
        with torch.inference_mode():
            predictions = grounder.model(batch)
        groundings = decode_predictions(predictions, batch, grounder.config.decoding)
        for row, grounding in zip(load.rows, groundings, strict=True):
            if row.video_id in load.failures:
                yield VideoAnswer(row.video_id, None, load.failures[row.video_id])
            else:
                yield VideoAnswer(row.video_id, grounding)


def batches_of(rows: Sequence[Row], batch_size: int, most_frames: int) -> Iterator[list[Row]]:
    """Divide videos into batches of at most `most_frames` once padded; one video always fits.

    The lengths of `rows` must ascend.
    """
    chosen: list[Row] = []
    for row in rows:
        full = len(chosen) == batch_size or (len(chosen) + 1) * row.num_frames > most_frames
        if chosen and full:
            yield chosen
            chosen = []
        chosen.append(row)
    if chosen:
        yield chosen


@dataclass(frozen=True, eq=False)
class _Load:
    """Videos that are asked one query at a time; those that cannot be read give no answer."""

    rows: list[Row]
    query: QueryFeatures
    with_prior: bool
    failures: dict[str, R2TError] = field(default_factory=dict)

    @property
    def num_frames(self) -> int:
        """Frames of the longest."""
        return max(row.num_frames for row in self.rows)

    def read_queries(self, arena: Arena) -> tuple[Tensor, Tensor]:
        """Return the query once for each video."""
        return pad_queries([self.query.tokens] * len(self.rows), arena)

    def read_priors(self, row: Row, stored: StoredVideo) -> list[Prior] | None:
        """Return the prior of the query for a video, which is asked whole."""
        if not self.with_prior:
            return None
        embedding, _ = stored.read_embedding()
        assert embedding is not None  # `require_embeddings` has seen that the store has them
        return [prior_features(embedding, embedding_of(self.query))]

    def finish(self, loaded: Loaded) -> list[Batch]:
        """Return the batch, with zeros in place of a video that cannot be read."""
        durations: list[float] = []
        rates: list[float] = []
        for row, stored in zip(self.rows, loaded.stored, strict=True):
            if isinstance(stored, R2TError):
                self.failures[row.video_id] = stored
                durations.append(1.0)
                rates.append(1.0)
            else:
                durations.append(stored.duration_seconds)
                rates.append(stored.frame_rate_fps)
        query, num_words = loaded.queries
        batch = Batch(
            query_ids=tuple(row.video_id for row in self.rows),
            videos=loaded.videos,
            video_of_query=torch.arange(len(self.rows)),
            num_frames=torch.tensor([row.num_frames for row in self.rows]),
            query=query,
            num_words=num_words,
            durations_seconds=float64_seconds(durations),
            frame_rates_fps=float64_seconds(rates),
            affine=loaded.affine,
            prior=self._prior(loaded),
        )
        return [batch.map(loaded.hold)]

    def _prior(self, loaded: Loaded) -> Tensor | None:
        if not self.with_prior:
            return None
        nothing = np.zeros((0, NUM_PRIORS), np.float32)  # of a video that cannot be read
        return pad_priors([each[0] if each else nothing for each in loaded.priors], self.num_frames)
