"""Stores of random features, made on the spot: toys for tests, or of the size of ViT-B/32's.

A frame stands for two seconds, as in QVHighlights. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from r2t.store import (
    Annotation,
    FeatureSpec,
    FeatureStore,
    QueryFeatures,
    SaliencyLabels,
    VideoSource,
)
from r2t.store.annotations import Split
from r2t.store.quantize import Affine
from r2t.store.schema import EmbeddingSpec, StorageDtype
from r2t.store.writer import StoreWriter

FRAME_RATE_FPS = 0.5
VAL_VIDEOS = 2
MOMENT_FRAMES = 3


def random_spec(
    *,
    layers: Sequence[int] = (9, 10, 11, 12),
    num_tokens: int = 50,
    vision_width: int = 768,
    text_width: int = 512,
    image_size: int = 224,
    dtype: StorageDtype = "float16",
) -> FeatureSpec:
    """Return what describes random features, by default of the last four layers of ViT-B/32."""
    return FeatureSpec(
        model="random",
        weights_sha256="0" * 64,
        vision_layers=tuple(layers),
        text_layers=tuple(layers),
        frame_rate=FRAME_RATE_FPS,
        num_tokens=num_tokens,
        vision_width=vision_width,
        text_width=text_width,
        image_size=image_size,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        dtype=dtype,
    )


def toy_spec(dtype: StorageDtype = "float16") -> FeatureSpec:
    """Return what describes features as small as a test wants them: two layers, five tokens."""
    return random_spec(
        layers=(1, 2), num_tokens=5, vision_width=16, text_width=16, image_size=32, dtype=dtype
    )


def make_store(
    path: Path,
    *,
    num_videos: int = 6,
    min_frames: int = 8,
    lengths: Sequence[int] = (),
    queries_per_video: int = 2,
    spec: FeatureSpec | None = None,
    embedding: EmbeddingSpec | None = None,
    seed: int = 0,
) -> FeatureStore:
    """Write videos v0, v1, … of growing length with queries v0-0, v0-1, …; the last are validation.

    `lengths` are the videos' frames instead. The features are of `toy_spec` unless told otherwise;
    with `embedding` the store has those beside the same features.
    """
    lengths = lengths or [min_frames + number for number in range(num_videos)]
    generator, beside = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    spec = spec or toy_spec()
    provenance = {"model": spec.model, "pretrained": "none"}
    store = FeatureStore.create(path, spec, provenance, embedding=embedding)
    annotations: list[Annotation] = []
    features: list[QueryFeatures] = []
    with store.writer() as writer:
        for number, num_frames in enumerate(lengths):
            video_id = f"v{number}"
            source = VideoSource(name=f"{video_id}.mp4", num_bytes=1, sha256="0", decoder="none")
            tokens = random_video(generator, spec, num_frames)
            frames = None if embedding is None else random_unit(beside, num_frames, embedding)
            write_video(writer, video_id, tokens, embedding=frames, source=source)
            for query in range(queries_per_video):
                annotation = random_annotation(
                    f"{video_id}-{query}",
                    video_id,
                    query=f"sentence {query}",
                    first_frame=query,
                    num_frames=num_frames,
                    split="val" if number >= len(lengths) - VAL_VIDEOS else "train",
                )
                annotations.append(annotation)
                drawn = random_query(generator, spec, annotation.query_id, 4 + query)
                if embedding is not None:
                    drawn = replace(drawn, embedding=random_unit(beside, 1, embedding)[0])
                features.append(drawn)
        if annotations:
            writer.add_queries(annotations, features)
    return store


def random_video(generator: Generator, spec: FeatureSpec, num_frames: int) -> NDArray[np.float16]:
    """Draw the tokens of a video: [layers, frames, tokens, width]."""
    shape = (spec.num_layers, num_frames, spec.num_tokens, spec.vision_width)
    return generator.standard_normal(shape).astype(np.float16)


def random_query(
    generator: Generator, spec: FeatureSpec, query_id: str, num_words: int
) -> QueryFeatures:
    """Draw the features of a sentence."""
    shape = (spec.num_layers, num_words, spec.text_width)
    return QueryFeatures(query_id, generator.standard_normal(shape).astype(np.float16))


def random_unit(
    generator: Generator, num_rows: int, embedding: EmbeddingSpec
) -> NDArray[np.float16]:
    """Draw embeddings: [rows, width], each of length 1."""
    rows = generator.standard_normal((num_rows, embedding.width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def random_annotation(
    query_id: str,
    video_id: str,
    *,
    query: str,
    first_frame: int,
    num_frames: int,
    split: Split,
) -> Annotation:
    """Return a sentence true of three frames of a video, with the highest saliency in each."""
    scores = np.zeros((num_frames, 3), np.float32)
    scores[first_frame : first_frame + MOMENT_FRAMES] = 4
    ends = np.array([[first_frame, first_frame + MOMENT_FRAMES]]) / FRAME_RATE_FPS
    return Annotation(
        query_id=query_id,
        video_id=video_id,
        query=query,
        moments=ends,
        saliency=SaliencyLabels(scores, 1 / FRAME_RATE_FPS, 0.0, 4.0),
        split=split,
        duration_seconds=num_frames / FRAME_RATE_FPS,
    )


def write_video(
    writer: StoreWriter,
    video_id: str,
    tokens: NDArray[Any],
    *,
    embedding: NDArray[np.float16] | None = None,
    source: VideoSource | None = None,
    affine: Affine | None = None,
) -> None:
    """Write a video's tokens: [layers, frames, tokens, width], or codes with what unpacks them.

    `embedding` are those of the frames, in a store that has them.
    """
    num_frames = tokens.shape[1]
    with writer.video(
        video_id,
        num_frames=num_frames,
        duration_seconds=num_frames / FRAME_RATE_FPS,
        frame_rate_fps=FRAME_RATE_FPS,
        source=source,
        affine=affine,
    ) as video:
        video.append(tokens, embedding)
