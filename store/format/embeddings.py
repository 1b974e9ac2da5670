"""A video's embeddings: one plain array beside its tokens, under a digest of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from r2t.store.errors import CorruptFeatureError
from r2t.store.features import EmbeddingOrigin
from r2t.store.format.columns import read_column_rows, read_columns, read_metadata
from r2t.store.format.layout import VIDEO_DIMENSIONS, FeatureDigest, split_embedding
from r2t.store.format.nodes import create_array
from r2t.store.legal import require_embedding
from r2t.store.schema import EmbeddingSpec

EMBEDDING = "embedding"
EMBEDDING_DIGEST = "embedding_digest"
EMBEDDING_FROM = "embedding_from"

_ORIGINS = ("frames", "tokens")


def embedding_digest(values: NDArray[np.float16]) -> str:
    """Return the digest of embeddings [frames, embedding_width], made as that of tokens is."""
    digest = FeatureDigest(values.dtype, values.shape)
    digest.update(values)
    return digest.finish()


def write_embedding(
    group: zarr.Group, values: NDArray[np.float16], origin: EmbeddingOrigin
) -> dict[str, str]:
    """Write embeddings [frames, embedding_width] into a video's group; return its attributes."""
    array = create_array(
        group,
        EMBEDDING,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(split_embedding(len(values))[1], values.shape[1]),
        dimension_names=VIDEO_DIMENSIONS[EMBEDDING],
    )
    array[...] = values
    return {EMBEDDING_DIGEST: embedding_digest(values), EMBEDDING_FROM: origin}


def read_embedding(
    group: zarr.Group,
    attributes: Mapping[str, Any],
    spec: EmbeddingSpec,
    num_frames: int,
    frames: range,
) -> tuple[NDArray[np.float16], EmbeddingOrigin]:
    """Read the embeddings of some consecutive frames, and what they were made from.

    Does not compute the digest. Raises `CorruptFeatureError` if there are none, or they are not
    what the store's header and the video's attributes say.
    """
    origin = attributes.get(EMBEDDING_FROM)
    if not isinstance(attributes.get(EMBEDDING_DIGEST), str) or origin not in _ORIGINS:
        raise CorruptFeatureError(
            f"{group.path}: its attributes name no embeddings, though the store's header does; "
            "extract this video again"
        )
    (column,) = read_metadata(group.store, [f"{group.path}/{EMBEDDING}"])
    found = (column.shape, column.dtype, column.chunk_rows)
    legal = ((num_frames, spec.width), "float16", split_embedding(num_frames)[1])
    if found != legal:
        raise CorruptFeatureError(
            f"{column.path} has (shape, dtype, frames a chunk) = {found}, expected {legal}"
        )
    if len(frames) == num_frames:
        (values,) = read_columns(group.store, [column])
    else:
        values = read_column_rows(group.store, column, frames.start, frames.stop)
    require_embedding(values, (len(frames), spec.width), group.path)
    return values, cast("EmbeddingOrigin", origin)


def embedding_files(spec: EmbeddingSpec, num_frames: int) -> Iterator[tuple[str, int | None]]:
    """Yield the files of a video's embeddings, named from its node, and their sizes if fixed."""
    num_chunks, rows = split_embedding(num_frames)
    yield f"{EMBEDDING}/zarr.json", None
    for number in range(num_chunks):
        yield f"{EMBEDDING}/c/{number}/0", rows * spec.width * 2
