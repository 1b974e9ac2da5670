"""A small store of random features, and a configuration that trains on it in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from r2t.store import (
    Annotation,
    FeatureSpec,
    FeatureStore,
    QueryFeatures,
    SaliencyLabels,
    VideoSource,
)
from r2t.store.schema import StorageDtype
from r2t.train.model.config import R2Config
from r2t.train.run.config import TrainConfig
from r2t.train.run.presets import find_preset

VAL_VIDEOS = 2


def tiny_spec(dtype: StorageDtype = "float16") -> FeatureSpec:
    return FeatureSpec(
        model="tiny",
        weights_sha256="0" * 64,
        vision_layers=(1, 2),
        text_layers=(1, 2),
        frame_rate=0.5,
        num_tokens=5,
        vision_width=16,
        text_width=16,
        image_size=32,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        dtype=dtype,
    )


def make_store(
    path: Path,
    *,
    num_videos: int = 6,
    min_frames: int = 8,
    dtype: StorageDtype = "float16",
    seed: int = 0,
    lengths: Sequence[int] = (),
) -> FeatureStore:
    """Write videos v0, v1, … of growing length with two queries each; the last are validation.

    `lengths` are the videos' frames instead.
    """
    lengths = lengths or [min_frames + number for number in range(num_videos)]
    num_videos = len(lengths)
    generator = np.random.default_rng(seed)
    spec = tiny_spec(dtype)
    store = FeatureStore.create(path, spec, {"model": "tiny", "pretrained": "none"})
    annotations: list[Annotation] = []
    features: list[QueryFeatures] = []
    with store.writer() as writer:
        for number in range(num_videos):
            num_frames = lengths[number]
            shape = (spec.num_layers, num_frames, spec.num_tokens, spec.vision_width)
            source = VideoSource(name=f"v{number}.mp4", num_bytes=1, sha256="0", decoder="none")
            with writer.video(
                f"v{number}",
                num_frames=num_frames,
                duration_seconds=2.0 * num_frames,
                frame_rate_fps=0.5,
                source=source,
            ) as video:
                video.append(generator.standard_normal(shape).astype(np.float16))
            for query in range(2):
                query_id = f"v{number}-{query}"
                start = 2.0 * query
                scores = np.zeros((num_frames, 3), np.float32)
                scores[query : query + 3] = 4
                annotations.append(
                    Annotation(
                        query_id=query_id,
                        video_id=f"v{number}",
                        query=f"sentence {query}",
                        moments=np.array([[start, start + 6.0]]),
                        saliency=SaliencyLabels(scores, 2.0, 0.0, 4.0),
                        split="val" if number >= num_videos - VAL_VIDEOS else "train",
                        duration_seconds=2.0 * num_frames,
                    )
                )
                words = (spec.num_layers, 4 + query, spec.text_width)
                tokens = generator.standard_normal(words).astype(np.float16)
                features.append(QueryFeatures(query_id, tokens))
        writer.add_queries(annotations, features)
    return store


def tiny_config(store: FeatureStore, **changes: object) -> TrainConfig:
    """Return QVHighlights settings at toy size for a store of `make_store`."""
    spec = store.spec
    config = find_preset("qvhighlights").train_config(num_layers=spec.num_layers)
    return replace(
        config,
        model=R2Config(
            num_layers=spec.num_layers,
            vision_width=spec.vision_width,
            text_width=spec.text_width,
            width=16,
            num_heads=2,
        ),
        **{"epochs": 2, "repeats": 1, "batch_size": 4, **changes},
    )


def undisturbed_config(store: FeatureStore) -> TrainConfig:
    """Return settings without dropout, whose last batch is of one sample."""
    config = tiny_config(store, epochs=3, batch_size=7)
    return replace(config, model=replace(config.model, dropout=0.0, drop_path=0.0))
