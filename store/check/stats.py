"""What eight-bit storage cost, as recorded when each video was written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from r2t.store.errors import StoreError
from r2t.store.feature_store import FeatureStore
from r2t.store.format import damage, errors_from_attributes
from r2t.store.parallel import map_threads
from r2t.store.progress import OnProgress, no_progress
from r2t.store.quantize import ERROR_FIELDS
from r2t.store.sources import open_root
from r2t.store.video_reader import video_attributes


@dataclass(frozen=True)
class QuantizationStats:
    """Errors of tokens by layer, over the videos that record them: means by frame, and the worst.

    `relative_l2` is the length of the error over that of the token, `cosine_distance` one minus the
    cosine between the token before and after.
    """

    layers: tuple[int, ...]
    num_videos: int
    num_videos_without: int
    relative_l2_mean: tuple[float, ...]
    relative_l2_max: tuple[float, ...]
    cosine_distance_mean: tuple[float, ...]
    cosine_distance_max: tuple[float, ...]


def quantization_stats(
    location: str | Path, *, on_video: OnProgress = no_progress
) -> QuantizationStats:
    """Gather the errors of an int8 store; raise `StoreError` for one that has none."""
    root = open_root(location)
    if root.spec.dtype != "int8":
        raise StoreError(
            f"{location} holds {root.spec.dtype} tokens without loss: only int8 stores have "
            "an error to report"
        )
    table = FeatureStore(root).videos
    video_ids: list[str] = table["video_id"].tolist()

    def errors(video_id: str) -> dict[str, list[float]] | None:
        with damage(f"{location}: {video_id}"):
            return errors_from_attributes(video_attributes(root, video_id), root.spec.num_layers)

    found = map_threads(errors, video_ids, on_done=on_video)
    weights = [
        frames
        for frames, each in zip(table["num_frames"].tolist(), found, strict=True)
        if each is not None
    ]
    recorded = [each for each in found if each is not None]
    values: dict[str, tuple[float, ...]] = dict.fromkeys(ERROR_FIELDS, ())
    for name in ERROR_FIELDS if recorded else ():
        of_videos = np.array([each[name] for each in recorded])
        worst = name.endswith("_max")
        by_layer = of_videos.max(0) if worst else np.average(of_videos, 0, weights=weights)
        values[name] = tuple(by_layer.tolist())
    return QuantizationStats(
        layers=root.spec.vision_layers,
        num_videos=len(recorded),
        num_videos_without=len(found) - len(recorded),
        **values,
    )
