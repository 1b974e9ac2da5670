"""Small random features, without torch."""

from __future__ import annotations

import resource
import tarfile
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2t.store import Annotation, FeatureSpec, QueryFeatures, SaliencyLabels, VideoSource
from r2t.store.format.parts import PartKind, part_place
from r2t.store.publish.local import LocalPublisher
from r2t.store.schema import FORMAT_VERSION
from r2t.store.writer import StoreWriter

SOURCE = VideoSource(name="dog.mp4", num_bytes=7, sha256="ab", decoder="decord", licence="CC0")


def small_spec(**changes: Any) -> FeatureSpec:
    values: dict[str, Any] = {
        "model": "small",
        "weights_sha256": "0" * 64,
        "vision_layers": (10, 11, 12),
        "text_layers": (10, 11, 12),
        "frame_rate": 0.5,
        "num_tokens": 3,
        "vision_width": 8,
        "text_width": 6,
        "image_size": 32,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }
    return FeatureSpec(**{**values, **changes})


def random_tokens(num_frames: int, seed: int = 0, spec: FeatureSpec | None = None) -> NDArray[Any]:
    """Return float16 [layers, frames, tokens, width] for the small spec."""
    spec = spec or small_spec()
    shape = (spec.num_layers, num_frames, spec.num_tokens, spec.vision_width)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float16)


def random_embeddings(num_rows: int, width: int = 5, seed: int = 0) -> NDArray[np.float16]:
    """Return embeddings [rows, width] of unit length."""
    rows = np.random.default_rng(seed).standard_normal((num_rows, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def write_video(
    writer: StoreWriter,
    video_id: str,
    tokens: NDArray[Any],
    window: int | None = None,
    embedding: NDArray[np.float16] | None = None,
) -> None:
    """Write a video at 0.5 fps, a window of frames at a time."""
    num_frames = tokens.shape[1]
    with writer.video(
        video_id,
        num_frames=num_frames,
        duration_seconds=2.0 * num_frames,
        frame_rate_fps=0.5,
        source=SOURCE,
    ) as video:
        for start in range(0, num_frames, window or num_frames):
            frames = slice(start, start + (window or num_frames))
            video.append(tokens[:, frames], None if embedding is None else embedding[frames])


def small_query(
    query_id: str, video_id: str = "dog", *, text: str = "a dog runs", words: int = 4, seed: int = 0
) -> tuple[Annotation, QueryFeatures]:
    """Return an annotated sentence with one moment and three saliency clips."""
    spec = small_spec()
    scores = (np.arange(6).reshape(3, 2) / 2).astype(np.float32)
    annotation = Annotation(
        query_id=query_id,
        video_id=video_id,
        query=text,
        moments=np.array([[1.0, 3.5]]),
        saliency=SaliencyLabels(scores, 2.0, 0.0, 4.0),
        split="val",
        domain="pets",
        duration_seconds=12.25,
    )
    shape = (spec.num_layers, words, spec.text_width)
    tokens = np.random.default_rng(seed).standard_normal(shape).astype(np.float16)
    return annotation, QueryFeatures(query_id, tokens)


def columns(
    *queries: tuple[Annotation, QueryFeatures],
) -> tuple[list[Annotation], list[QueryFeatures]]:
    """Return annotations and features of queries apart."""
    return [annotation for annotation, _ in queries], [features for _, features in queries]


def pack(store: Path, path: Path) -> Path:
    """Pack a store into an uncompressed zip."""
    with zipfile.ZipFile(path, "w") as packed:
        for file in sorted(store.rglob("*")):
            packed.write(file, file.relative_to(store))
    return path


def unpack_version_1(folder: Path) -> None:
    """Put `float16.zarr` and `int8.zarr`, stores of format version 1, into a folder."""
    with tarfile.open(Path(__file__).parent / "data" / "stores_v1.tar.xz") as stores:
        stores.extractall(folder, filter="data")


@contextmanager
def full_disk(num_bytes: int = 1000) -> Generator[None]:
    """Let no file grow larger than this, as a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def committed_parts(path: Path, kind: PartKind, version: int = FORMAT_VERSION) -> list[str]:
    """Return the names of the parts of a kind that lie in a store."""
    return LocalPublisher(path, path.parent).committed(part_place(kind, version))


def leftovers(store: Path) -> list[Path]:
    """List everything unfinished beside a store."""
    return sorted(store.with_name(f"{store.name}.partial").rglob("*"))
