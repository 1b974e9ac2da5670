"""The queries of a store, answered by a model: in batches, and long videos in windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from r2t.store.annotations import Annotation
from r2t.store.feature_store import FeatureStore
from r2t.store.frame_source import stored_video
from r2t.train.cpu_threads import linear_work, threads_for
from r2t.train.decode import DecodeConfig, Grounding, decode
from r2t.train.grounder import Grounder
from r2t.train.model import R2Model
from r2t.train.reader import FeatureReader
from r2t.train.windows import WindowPlan, ground_source


def longest_video(store: FeatureStore, annotations: Sequence[Annotation]) -> int:
    """Return the frames of the longest annotated video that the store has, 0 without any."""
    wanted = {annotation.video_id for annotation in annotations}
    lengths = store.lengths()
    return max((lengths[video_id] for video_id in wanted if video_id in lengths), default=0)


def long_videos(store: FeatureStore, plan: WindowPlan) -> set[str]:
    """Return the videos of a store that are asked in windows."""
    lengths = store.lengths().items()
    return {video_id for video_id, num_frames in lengths if num_frames > plan.limit_frames}


def ground_all(
    model: R2Model,
    reader: FeatureReader,
    decoding: DecodeConfig,
    *,
    on_queries: Callable[[int], None] | None = None,
) -> dict[str, Grounding]:
    """Ground every query of a reader, by id; `on_queries` hears how many each batch answered.

    Batching changes no answer: a sample's outputs do not depend on its neighbours.
    """
    device = next(model.parameters()).device
    groundings: dict[str, Grounding] = {}
    work = linear_work(reader.most_frames, model.config.width, model.config.width)
    with torch.inference_mode(), threads_for(work):
        for batch in reader.in_order():
            found = decode(model(batch.to(device)), batch, decoding)
            groundings.update(zip(batch.query_ids, found, strict=True))
            if on_queries is not None:
                on_queries(len(batch))
    return groundings


def ground_annotations(
    grounder: Grounder,
    store: FeatureStore,
    annotations: Sequence[Annotation],
    *,
    batch_size: int,
    on_queries: Callable[[int], None] = lambda count: None,
) -> dict[str, Grounding]:
    """Ground the queries of annotations, by id; those of long videos in windows, after the others.

    `on_queries` hears how many each batch, or each long video, answered.
    """
    plan = WindowPlan.of_run(grounder.trained_on)
    too_long = long_videos(store, plan)
    short = [row for row in annotations if row.video_id not in too_long]
    reader = FeatureReader(store, short, batch_size=batch_size)
    groundings = ground_all(grounder.model, reader, grounder.config.decoding, on_queries=on_queries)
    asked: dict[str, list[str]] = {}
    for row in annotations:
        if row.video_id in too_long:
            asked.setdefault(row.video_id, []).append(row.query_id)
    for video_id, query_ids in asked.items():
        queries = [store.read_query(query_id) for query_id in query_ids]
        found = ground_source(grounder, stored_video(store, video_id), queries, plan=plan)
        groundings |= zip(query_ids, found, strict=True)
        on_queries(len(query_ids))
    return groundings
