"""Answer the queries of a store with a model: in batches, and those of long videos in windows."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from r2t.store.annotations import Annotation
from r2t.store.feature_store import FeatureStore
from r2t.store.progress import OnProgress, no_progress
from r2t.train.cpu_threads import linear_work, threads_for
from r2t.train.data import FeatureReader, Reading, share_of
from r2t.train.grounding.grounder import Grounder
from r2t.train.grounding.stored_windows import ground_stored
from r2t.train.grounding.windows import WindowPlan
from r2t.train.model import DecodeConfig, Grounding, R2Model, decode_predictions


def longest_video(store: FeatureStore, annotations: Sequence[Annotation]) -> int:
    """Return the frames of the longest annotated video that the store has, 0 without any."""
    wanted = {annotation.video_id for annotation in annotations}
    lengths = store.lengths()
    return max((lengths[video_id] for video_id in wanted if video_id in lengths), default=0)


def long_videos(store: FeatureStore, plan: WindowPlan) -> set[str]:
    """Return the videos of a store that are asked in windows."""
    lengths = store.lengths().items()
    return {video_id for video_id, num_frames in lengths if plan.divides(num_frames)}


def ground_all(
    model: R2Model,
    reader: FeatureReader,
    decoding: DecodeConfig,
    *,
    on_queries: OnProgress = no_progress,
) -> dict[str, Grounding]:
    """Ground every query of a reader, by id; `on_queries` is told how many are answered so far.

    Batching changes no answer: a sample's outputs do not depend on its neighbours.
    """
    device = next(model.parameters()).device
    groundings: dict[str, Grounding] = {}
    work = linear_work(reader.most_frames, model.config.width, model.config.width)
    with torch.inference_mode(), threads_for(work):
        for batch in reader.in_order():
            found = decode_predictions(model(batch.to(device)), batch, decoding)
            groundings.update(zip(batch.query_ids, found, strict=True))
            on_queries(len(groundings), len(reader.annotations))
    return groundings


class StoredQueries:
    """Annotated queries of a store, to be asked in batches, those of long videos in windows.

    Queries whose video the store lacks are left out, with an `AnnotationWarning`. Several processes
    share the work as `reading` has it. `prior`: the model that will be asked takes one.
    """

    def __init__(
        self,
        store: FeatureStore,
        annotations: Sequence[Annotation],
        plan: WindowPlan,
        *,
        batch_size: int,
        prior: bool = False,
        reading: Reading | None = None,
    ) -> None:
        self._store = store
        self._plan = plan
        self._reading = reading or Reading()
        too_long = long_videos(store, plan)
        whole = [row for row in annotations if row.video_id not in too_long]
        self._whole = FeatureReader(
            store, whole, batch_size=batch_size, prior=prior, reading=self._reading
        )
        self._long: dict[str, list[str]] = {}
        for row in annotations:
            if row.video_id in too_long:
                self._long.setdefault(row.video_id, []).append(row.query_id)
        known = {row.query_id for row in self._whole.annotations}
        known.update(*self._long.values())
        self.annotations = [row for row in annotations if row.query_id in known]

    def ground(
        self, grounder: Grounder, on_queries: OnProgress = no_progress
    ) -> dict[str, Grounding]:
        """Answer this process's part of the queries, by id.

        `on_queries` is told how many are answered so far, of all those of every process.
        """
        decoding = grounder.config.decoding
        total = len(self.annotations)
        groundings = ground_all(
            grounder.model,
            self._whole,
            decoding,
            on_queries=lambda done, _: on_queries(done, total),
        )
        mine = share_of(list(self._long), self._reading.rank, self._reading.num_ranks)
        asked = {video_id: self._long[video_id] for video_id in mine}
        answers = ground_stored(grounder, self._store, asked, self._plan, self._reading)
        for query_ids, found in zip(asked.values(), answers, strict=True):
            groundings |= zip(query_ids, found, strict=True)
            on_queries(len(groundings), total)
        return groundings
