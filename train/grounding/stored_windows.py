"""Windows of stored videos, read ahead as the batches of a training are."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from r2t.store.errors import R2TError
from r2t.store.feature_store import FeatureStore
from r2t.store.features import QueryFeatures
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

    def queries(video_id: str) -> list[QueryFeatures]:
        return [store.read_query(query_id) for query_id in asked[video_id]]

    for found in ground_each(grounder, store, list(asked), queries, plan, reading):
        if isinstance(found, R2TError):
            raise found
        yield found


def ground_each(
    grounder: Grounder,
    store: FeatureStore,
    video_ids: Sequence[str],
    queries: Callable[[str], Sequence[QueryFeatures]],
    plan: WindowPlan,
    reading: Reading,
) -> Iterator[list[Grounding] | R2TError]:
    """Yield what each video answers to the queries about it, or why it cannot be read."""
    if grounder.has_prior:
        require_embeddings(store)
    asked = _AskedVideos(grounder, store, video_ids, plan)
    flat = [window.stop - window.start for count in asked.counts for window in plan.windows(count)]
    size = BufferSize(
        aligned(max(flat, default=0) * store.spec.frame_bytes()), rest_bytes(store.spec, 1, 1)
    )
    reader = RowReader(store, replace(reading, cache=None), tolerant=True)
    batches = reader.read(asked.loads(), len(flat), size)
    for place, video_id in enumerate(video_ids):
        yield asked.answer(place, batches, partial(queries, video_id))


class _AskedVideos:
    """Videos whose windows are read ahead, in order, and then asked."""

    def __init__(
        self, grounder: Grounder, store: FeatureStore, video_ids: Sequence[str], plan: WindowPlan
    ) -> None:
        lengths = store.lengths()
        self.counts = [lengths.get(each) or store.video_row(each).num_frames for each in video_ids]
        self._grounder = grounder
        self._store = store
        self._video_ids = video_ids
        self._plan = plan
        self._opened: dict[int, WindowedVideo | R2TError] = {}
        self._begun: deque[_Load] = deque()

    def loads(self) -> Iterator[_Load]:
        """Yield every window that can be read."""
        for place, video_id in enumerate(self._video_ids):
            video = self._open(place)
            if isinstance(video, R2TError):
                continue
            for window in video.windows:
                self._begun.append(_Load.of(self._store.spec, video_id, video, window))
                yield self._begun[-1]

    def answer(
        self, place: int, batches: Iterator[Batch], queries: Callable[[], Sequence[QueryFeatures]]
    ) -> list[Grounding] | R2TError:
        """Ask a video, whose windows come next; return why it cannot be read if so."""
        video = self._open(place)
        if isinstance(video, R2TError):
            return video
        own = itertools.islice(batches, len(video.windows))
        try:
            embedding = None
            if self._grounder.has_prior:
                embedding = self._store.read_embedding(self._video_ids[place])
            parts = self._prepared(own)
            return self._grounder.ground_windows(video, parts, queries(), embedding)
        except R2TError as error:
            for _ in own:  # what is left of it
                self._begun.popleft()
            return error
        finally:
            del self._opened[place]

    def _open(self, place: int) -> WindowedVideo | R2TError:
        if place not in self._opened:
            try:
                source = self._store.open_video(self._video_ids[place])
            except R2TError as error:
                self._opened[place] = error
            else:
                source = replace(source, num_frames=self.counts[place])
                self._opened[place] = WindowedVideo.of(source, self._plan)
        return self._opened[place]

    def _prepared(self, batches: Iterator[Batch]) -> Iterator[PreparedWindow]:
        for batch in batches:
            for failure in self._begun.popleft().failures:
                raise failure
            yield self._grounder.prepare_tokens(
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
    failures: list[R2TError] = field(default_factory=list)

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
        """Return the batch, of zeros where the window cannot be read."""
        self.failures.extend(each for each in loaded.stored if isinstance(each, R2TError))
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
