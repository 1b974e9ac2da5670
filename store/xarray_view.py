"""A store's videos as xarray shows them: labelled arrays whose values are read when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
import xarray
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from r2t.store.format import TokenLayout, VideoRow
from r2t.store.schema import EmbeddingSpec, FeatureSpec
from r2t.store.video_reader import StoredVideo

_Read = Callable[[slice, slice], NDArray[Any]]


class OpenStore(Protocol):
    """What is asked of a store that is open for reading."""

    spec: FeatureSpec
    embedding: EmbeddingSpec | None

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[str]: ...

    def __contains__(self, video_id: object) -> bool: ...

    def video_attributes(self, video_id: str) -> dict[str, Any]: ...

    def locate_video(self, video_id: str, *, layers: slice, frames: slice) -> StoredVideo: ...

    def read_embedding(self, video_id: str, *, frames: slice) -> NDArray[np.float16]: ...


class VideoDatasets(Mapping[str, xarray.Dataset]):
    """A dataset for each indexed video by its id, made when it is looked up.

    Of what is stored only the video's attributes are read for that. `tokens` are as stored, so
    codes in a store of int8; `start_seconds` is where each frame's slot begins.
    """

    def __init__(self, store: OpenStore) -> None:
        self._store = store

    def __len__(self) -> int:
        return len(self._store)

    def __iter__(self) -> Iterator[str]:
        return iter(self._store)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._store

    def __getitem__(self, video_id: str) -> xarray.Dataset:
        store = self._store
        attributes = store.video_attributes(video_id)
        row = VideoRow.from_attributes(attributes)
        layout = TokenLayout.of(store.spec, row.num_frames)
        of_channels = {"layer": layout.layers, "channel": layout.width}
        of_tokens = {"layer": layout.layers, "frame": layout.frames, "token": layout.tokens}
        arrays = {
            "tokens": _variable(
                {**of_tokens, "channel": layout.width},
                layout.dtype,
                partial(_read_tokens, store, video_id),
            )
        }
        for name in ("scale", "offset") if store.spec.dtype == "int8" else ():
            arrays[name] = _variable(
                of_channels, np.dtype(np.float32), partial(_read_affine, store, video_id, name)
            )
        if store.embedding is not None:
            arrays["embedding"] = _variable(
                {"frame": layout.frames, "embedding_channel": store.embedding.width},
                np.dtype(np.float16),
                partial(_read_embedding, store, video_id),
            )
        coordinates = {
            "layer": list(store.spec.vision_layers),
            "start_seconds": ("frame", np.arange(layout.frames) / row.frame_rate_fps),
        }
        return xarray.Dataset(arrays, coordinates, attributes)


def _read_tokens(store: OpenStore, video_id: str, layers: slice, frames: slice) -> NDArray[Any]:
    found = store.locate_video(video_id, layers=layers, frames=frames)
    out = np.empty(found.shape, found.dtype)
    found.read_into(out)
    return out


def _read_affine(
    store: OpenStore, video_id: str, name: str, layers: slice, frames: slice
) -> NDArray[Any]:
    return getattr(store.locate_video(video_id, layers=layers, frames=frames), name)


def _read_embedding(store: OpenStore, video_id: str, layers: slice, frames: slice) -> NDArray[Any]:
    return store.read_embedding(video_id, frames=frames)


def _variable(sizes: Mapping[str, int], dtype: np.dtype[Any], read: _Read) -> xarray.Variable:
    return xarray.Variable(
        tuple(sizes), indexing.LazilyIndexedArray(_StoredArray(sizes, dtype, read))
    )


class _StoredArray(BackendArray):
    """An array of a store, of which only the layers and frames that are asked for are read."""

    def __init__(self, sizes: Mapping[str, int], dtype: np.dtype[Any], read: _Read) -> None:
        self.sizes = dict(sizes)
        self.shape = tuple(sizes.values())
        self.dtype = dtype
        self._read = read

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray[Any]:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._select
        )

    def _select(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        spans = {"layer": slice(None), "frame": slice(None)}
        within = list(key)
        for axis, (name, size) in enumerate(self.sizes.items()):
            if name in spans:
                spans[name], within[axis] = _span(key[axis], size)
        if any(span.start == span.stop is not None for span in spans.values()):
            return np.empty(self.shape, self.dtype)[key]
        return self._read(spans["layer"], spans["frame"])[tuple(within)]


def _span(key: int | slice, size: int) -> tuple[slice, int | slice]:
    """Return consecutive places that hold all that are asked for, and where they are in those."""
    if not isinstance(key, slice):
        place = range(size)[key]
        return slice(place, place + 1), 0
    places = range(size)[key]
    if not len(places):
        return slice(0, 0), slice(0, 0)
    first, last = sorted((places[0], places[-1]))
    return slice(first, last + 1), slice(None, None, places.step)
