"""What the sections work on, made on the spot: batches and stores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from toy_store import (
    FRAME_RATE_FPS,
    MOMENT_FRAMES,
    random_annotation,
    random_query,
    random_spec,
    write_video,
)

from gpu_check.setting import Sizes
from r2t.store import Annotation, FeatureSpec, FeatureStore, QueryFeatures
from r2t.store.schema import StorageDtype
from r2t.train.data.batch import Batch, Labels, Sample, collate

WRITERS = 8
QUERIES_OF_A_VIDEO = 2
LONG_VIDEO = "long"


def random_batch(sizes: Sizes, size: int, *, num_frames: int = 0, seed: int = 0) -> Batch:
    """Make labelled features of videos that differ in length, each with a query of its own."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    longest = num_frames or sizes.num_frames
    samples: list[Sample] = []
    for index in range(size):
        frames, words = longest, sizes.num_words
        if index:
            frames = int(random.integers(longest * 3 // 4, longest + 1))
            words = int(random.integers(sizes.num_words // 2, sizes.num_words + 1))
        start, end = np.sort(random.choice(frames, 2, replace=False))
        saliency = np.zeros(frames, dtype=np.float32)
        saliency[start:end] = 0.5 + random.random(end - start) / 2
        video = torch.randn(sizes.num_layers, frames, sizes.num_tokens, sizes.vision_width)
        samples.append(
            Sample(
                query_id=str(index),
                video=video.half(),
                query=torch.randn(sizes.num_layers, words, sizes.text_width).half(),
                duration_seconds=frames / FRAME_RATE_FPS,
                frame_rate_fps=FRAME_RATE_FPS,
                labels=Labels(np.array([[start, end]], dtype=np.float32), saliency, int(start)),
            )
        )
    return collate(samples)


def store_path(folder: Path, dtype: StorageDtype) -> Path:
    """Return where the store of a dtype lies."""
    return folder / f"{dtype}.zarr"


def make_store(folder: Path, sizes: Sizes, dtype: StorageDtype) -> FeatureStore:
    """Write videos of random tokens with two queries each, and a long one without any.

    A quarter of the videos are validation.
    """
    spec = random_spec(
        layers=range(1, sizes.num_layers + 1),
        num_tokens=sizes.num_tokens,
        vision_width=sizes.vision_width,
        text_width=sizes.text_width,
        dtype=dtype,
    )
    store = FeatureStore.create(store_path(folder, dtype), spec, {"pretrained": "none"})
    random = np.random.default_rng(0)
    noise = random.standard_normal(_shape(sizes, sizes.num_frames), dtype=np.float32)
    affine = None
    codes: NDArray[Any] = noise.astype(np.float16)
    if dtype == "int8":  # codes at once: to quantise takes longer than all else here
        codes = (noise * 40).clip(-128, 127).astype(np.int8)
        channels = (sizes.num_layers, sizes.vision_width)
        scale = random.uniform(1 / 50, 1 / 30, channels).astype(np.float32)
        affine = scale, random.uniform(-0.5, 0.5, channels).astype(np.float32)
    annotations, features = _queries(sizes, spec, random)
    with store.writer() as writer:

        def write(number: int) -> None:
            frames = _num_frames(sizes, number)
            tokens = np.roll(codes, number, axis=-1)[:, :frames]  # each has bytes of its own
            write_video(writer, f"v{number}", tokens, affine=affine)

        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(write, range(sizes.num_videos)))
        repeats = -(-sizes.long_num_frames // sizes.num_frames)
        if dtype == "float16":
            long = np.tile(codes, (1, repeats, 1, 1))[:, : sizes.long_num_frames]
            write_video(writer, LONG_VIDEO, long)
        writer.add_queries(annotations, features)
    return store


def _queries(
    sizes: Sizes, spec: FeatureSpec, random: np.random.Generator
) -> tuple[list[Annotation], list[QueryFeatures]]:
    annotations: list[Annotation] = []
    features: list[QueryFeatures] = []
    for number in range(sizes.num_videos):
        frames = _num_frames(sizes, number)
        for query in range(QUERIES_OF_A_VIDEO):
            query_id = f"v{number}-{query}"
            annotation = random_annotation(
                query_id,
                f"v{number}",
                query=f"sentence {query_id}",
                first_frame=(number + query) % (frames - MOMENT_FRAMES),
                num_frames=frames,
                split="val" if number % 4 == 3 else "train",
            )
            annotations.append(annotation)
            words = int(random.integers(sizes.num_words // 2, sizes.num_words + 1))
            features.append(random_query(random, spec, query_id, words))
    return annotations, features


def _num_frames(sizes: Sizes, number: int) -> int:
    return sizes.num_frames - number % (sizes.num_frames // 4)


def _shape(sizes: Sizes, num_frames: int) -> tuple[int, ...]:
    return sizes.num_layers, num_frames, sizes.num_tokens, sizes.vision_width
