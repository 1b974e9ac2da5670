"""Annotations and query features as columns, both ways."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from r2t.store.annotations import Annotation, SaliencyLabels, Split
from r2t.store.errors import AnnotationError, ConfigError
from r2t.store.features import QueryFeatures
from r2t.store.format.header import StoreHeader
from r2t.store.format.layout import columns_digest
from r2t.store.format.parts import QUERY_COLUMNS
from r2t.store.format.stored_part import Part

ANNOTATION_COLUMNS = (
    *(name for name in QUERY_COLUMNS if name != "digest"),
    *("moments", "moments_offsets", "saliency", "saliency_offsets"),
)
"""The columns of a queries part that an annotation is made of."""


def query_columns(
    annotations: Sequence[Annotation], features: Sequence[QueryFeatures]
) -> dict[str, NDArray[Any]]:
    """Return the columns of a queries part, a row for each annotation."""
    for annotation, feature in zip(annotations, features, strict=True):
        if annotation.query_id != feature.query_id:
            raise ConfigError(
                f"features of {feature.query_id!r} given for query {annotation.query_id!r}"
            )
    labels = [annotation.saliency for annotation in annotations]
    tokens = [np.swapaxes(feature.tokens, 0, 1) for feature in features]
    moments = [annotation.moments.astype(np.float64) for annotation in annotations]
    saliency = [
        np.zeros(0, np.float32) if label is None else label.scores.ravel() for label in labels
    ]

    def text(values: Sequence[str]) -> NDArray[Any]:
        try:
            return np.array(values, dtype=np.dtypes.StringDType())
        except UnicodeEncodeError as error:
            raise AnnotationError(f"an id or sentence is no valid Unicode: {error}") from error

    def number(values: Sequence[float | None], dtype: Any) -> NDArray[Any]:
        return np.array([np.nan if value is None else value for value in values], dtype=dtype)

    embeddings = [feature.embedding for feature in features if feature.embedding is not None]
    if embeddings and len(embeddings) < len(features):
        raise ConfigError("an embedding is given for some queries of a part, but not for all")
    return {
        "query_id": text([annotation.query_id for annotation in annotations]),
        "video_id": text([annotation.video_id for annotation in annotations]),
        "text": text([annotation.query for annotation in annotations]),
        "split": text([annotation.split for annotation in annotations]),
        "domain": text([annotation.domain for annotation in annotations]),
        "duration_seconds": number([a.duration_seconds for a in annotations], np.float64),
        "saliency_clip_seconds": number([s and s.clip_seconds for s in labels], np.float64),
        "saliency_lowest": number([s and s.lowest for s in labels], np.float64),
        "saliency_highest": number([s and s.highest for s in labels], np.float64),
        "saliency_annotators": np.array(
            [0 if s is None else s.scores.shape[1] for s in labels], np.int64
        ),
        "digest": text(
            [query_row_digest(a, f) for a, f in zip(annotations, features, strict=True)]
        ),
        "tokens": np.concatenate(tokens),
        "tokens_offsets": _offsets(tokens),
        "moments": np.concatenate(moments),
        "moments_offsets": _offsets(moments),
        "saliency": np.concatenate(saliency),
        "saliency_offsets": _offsets(saliency),
        **({"embedding": np.stack(embeddings)} if embeddings else {}),
    }


def annotation_at(part: Part, row: int) -> Annotation:
    """Return one row of a queries part as the annotation it was written from."""
    columns = part.columns
    annotators = int(columns["saliency_annotators"][row])
    saliency = None
    if annotators > 0:
        saliency = SaliencyLabels(
            scores=ragged_row(part, "saliency", row).reshape(-1, annotators),
            clip_seconds=float(columns["saliency_clip_seconds"][row]),
            lowest=float(columns["saliency_lowest"][row]),
            highest=float(columns["saliency_highest"][row]),
        )
    duration = float(columns["duration_seconds"][row])
    return Annotation(
        query_id=str(columns["query_id"][row]),
        video_id=str(columns["video_id"][row]),
        query=str(columns["text"][row]),
        moments=ragged_row(part, "moments", row),
        saliency=saliency,
        split=cast("Split", str(columns["split"][row])),
        domain=str(columns["domain"][row]),
        duration_seconds=None if np.isnan(duration) else duration,
    )


def read_query_rows(part: Part, rows: Iterable[int]) -> Iterator[tuple[Annotation, QueryFeatures]]:
    """Yield some rows of a queries part as what they were written from."""
    for row in rows:
        annotation = annotation_at(part, row)
        yield annotation, query_features_at(part, row)


def query_features_at(part: Part, row: int, words: NDArray[Any] | None = None) -> QueryFeatures:
    """Return the features of one row of a queries part; raise `ConfigError` if they are illegal.

    `words` are its tokens [words, layers, text_width] if they have been read already.
    """
    if words is None:
        words = ragged_row(part, "tokens", row)
    embedding = None
    if "embedding" in part.arrays:
        embedding = part.rows("embedding", row, row + 1)[0]
    tokens = np.array(np.swapaxes(words, 0, 1), order="C")  # a copy, since a part's are read-only
    return QueryFeatures(str(part.columns["query_id"][row]), tokens, embedding)


def require_fitting(features: QueryFeatures, header: StoreHeader) -> None:
    """Raise `ConfigError` unless a query's features have the shapes that their store holds."""
    spec, embedding = header.spec, header.embedding
    if features.tokens.shape[0::2] != (spec.num_layers, spec.text_width):
        raise ConfigError(
            f"{features!r} does not fit {spec.num_layers} layers of width {spec.text_width}"
        )
    found = None if features.embedding is None else len(features.embedding)
    if found != (None if embedding is None else embedding.width):
        holds = "no embeddings" if embedding is None else f"embeddings of width {embedding.width}"
        given = "none" if found is None else f"one of width {found}"
        raise ConfigError(f"{features!r}: the store holds {holds}, {given} was given")


def ragged_row(part: Part, column: str, row: int) -> NDArray[Any]:
    """Return one row's values of a ragged column."""
    offsets = part.columns[f"{column}_offsets"]
    return part.rows(column, int(offsets[row]), int(offsets[row + 1]))


def _offsets(rows: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)


def query_row_digest(annotation: Annotation, feature: QueryFeatures) -> str:
    """Return the digest of all that is stored of one query."""
    saliency = annotation.saliency
    columns: list[tuple[str, NDArray[Any]]] = [
        (
            "text",
            np.array(
                [
                    annotation.query_id,
                    annotation.video_id,
                    annotation.query,
                    annotation.split,
                    annotation.domain,
                ],
                dtype=np.dtypes.StringDType(),
            ),
        ),
        (
            "duration",
            np.array(
                [-1.0 if annotation.duration_seconds is None else annotation.duration_seconds]
            ),
        ),
        ("moments", annotation.moments.astype(np.float64)),
        ("tokens", feature.tokens),
    ]
    if saliency is not None:
        scale = np.array([saliency.clip_seconds, saliency.lowest, saliency.highest])
        columns += [("saliency", saliency.scores), ("scale", scale)]
    return columns_digest(columns)
