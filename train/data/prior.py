"""The prior: what the frozen CLIP itself makes of a frame and a sentence, as two numbers a frame.

R²-Tuning reads hidden states from before CLIP's projections, so it cannot see how well CLIP finds
that they fit. The cosine of CLIP's own embeddings says it: as it is, which can be compared between
videos, and standardised over the frames of its video, which says where in the video it is highest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float16, Float32, Float64
from numpy.typing import NDArray
from torch import Tensor

import r2t.store
from r2t.store.errors import ConfigError
from r2t.store.features import QueryFeatures, VideoFeatures
from r2t.train.data.query_reader import QueryReader
from r2t.train.data.sampling import Row

NUM_PRIORS = 2
Prior = Float32[np.ndarray, "_ 2"]
_SCALE = 10.0  # cosines of CLIP lie within a few tenths
_LEAST_STD = 1e-5  # what rounding to float16 does to a cosine
_LEAST_LENGTH = 1e-6


def prior_features(
    embedding: Float16[np.ndarray, "frames width"], sentence: Float16[np.ndarray, " channels"]
) -> Prior:
    """Return ten times the cosine of each frame with a sentence, and the cosine standardised.

    `embedding` must be that of all frames of a video: mean and deviation are theirs, so whoever
    needs some of the frames cuts the result. Where the cosines are all alike the second number is
    0.
    """
    cosines = frame_cosines(embedding, sentence)
    centred, std = cosines - cosines.mean(), cosines.std()
    standardised = centred / std if std > _LEAST_STD else np.zeros_like(centred)
    return np.stack([_SCALE * cosines, standardised], axis=1).astype(np.float32)


def prior_cosines(prior: Float32[Tensor, "*batch 2"]) -> Float32[Tensor, "*batch"]:
    """Return the cosines that a prior was made of."""
    return prior[..., 0] / _SCALE


def frame_cosines(
    embedding: Float16[np.ndarray, "frames width"], sentence: Float16[np.ndarray, " channels"]
) -> Float64[np.ndarray, " frames"]:
    """Return the cosine of each frame with a sentence; both must be of one CLIP."""
    if embedding.shape[1] != len(sentence):
        raise ConfigError(
            f"embeddings of {embedding.shape[1]} channels for frames and {len(sentence)} for the "
            "sentence: they must be of one CLIP"
        )
    frames, words = _unit(embedding), _unit(sentence[None])
    # Not by BLAS, whose threads would call for all cores from each of those that read ahead.
    return np.einsum("fw,w->f", frames, words[0]).astype(np.float64)


def _unit(rows: NDArray[np.float16]) -> NDArray[np.float32]:
    """Make rows as long as they are meant to be: rounding to float16 has changed that."""
    exact = rows.astype(np.float32)
    lengths = np.sqrt(np.einsum("rw,rw->r", exact, exact))
    return exact / np.maximum(lengths, _LEAST_LENGTH)[:, None]


def require_embeddings(store: r2t.store.FeatureStore) -> None:
    """Raise `ConfigError` unless a store has what a prior and answers without training need."""
    if store.embedding is None:
        raise ConfigError(
            f"{store.location} has no embeddings, which a model with a prior needs, and so do "
            f"answers without a trained run: r2t store upgrade {store.location} adds them to a "
            "store on this machine that holds CLIP's last layer; otherwise extract again, or train "
            "with --set prior=off"
        )


def embedding_of(features: VideoFeatures | QueryFeatures) -> NDArray[np.float16]:
    """Return CLIP's embedding of frames or of a sentence; raise `ConfigError` if there is none."""
    if features.embedding is None:
        raise ConfigError(
            f"{features!r} has no embedding, which a model with a prior needs, and so do answers "
            "without a trained run: encode it anew, or read it from a store that r2t store upgrade "
            "has given embeddings"
        )
    return features.embedding


class PriorReader:
    """Priors of a store's videos and queries, each read once and kept: 8 bytes a frame and query.

    Safe to use from many threads.
    """

    def __init__(self, store: r2t.store.FeatureStore, queries: QueryReader) -> None:
        require_embeddings(store)
        self._store = store
        self._queries = queries
        self._kept: dict[tuple[Row, str], Prior] = {}

    def read(self, row: Row, query_ids: Sequence[str]) -> list[Prior]:
        """Return what each of these queries has in a row."""
        missing = [query_id for query_id in query_ids if (row, query_id) not in self._kept]
        if missing:
            whole = self._store.read_embedding(row.video_id)
            frames = slice(row.first_frame, row.first_frame + row.num_frames)
            for query_id in missing:
                sentence = embedding_of(self._queries.read(query_id))
                self._kept[row, query_id] = prior_features(whole, sentence)[frames].copy()
        return [self._kept[row, query_id] for query_id in query_ids]


def pad_priors(priors: Sequence[Prior], num_frames: int) -> Float32[Tensor, "batch frames 2"]:
    """Stack priors, with zeros after the shorter ones, to so many frames."""
    padded = np.zeros((len(priors), num_frames, NUM_PRIORS), np.float32)
    for target, prior in zip(padded, priors, strict=True):
        target[: len(prior)] = prior
    return torch.from_numpy(padded)
