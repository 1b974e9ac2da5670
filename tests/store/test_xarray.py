"""A store in xarray: its folders open as they are, and `to_xarray` reads what is asked for."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray
from features import (
    pack,
    random_embeddings,
    random_tokens,
    small_query,
    small_spec,
    write_video,
)

from r2t.store import EmbeddingSpec, FeatureStore
from r2t.store.errors import ConfigError, FeatureNotFoundError

LENGTHS = {"dog": 5, "-x y": 301}
EMBEDDINGS = {video_id: random_embeddings(length) for video_id, length in LENGTHS.items()}


@pytest.fixture(scope="module", params=["float16", "int8"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    path = tmp_path_factory.mktemp("xarray") / "feats.zarr"
    store = FeatureStore.create(
        path, small_spec(dtype=request.param), embedding=EmbeddingSpec(width=5)
    )
    with store.writer() as writer:
        for video_id, length in LENGTHS.items():
            write_video(writer, video_id, random_tokens(length), 64, EMBEDDINGS[video_id])
        annotation, features = small_query("q1")
        writer.add_queries([annotation], [replace(features, embedding=EMBEDDINGS["dog"][0])])
    return store


def test_xarray_opens_a_video_and_the_store_as_they_lie(store: FeatureStore) -> None:
    exact = store.read_video("dog")
    alone = xarray.open_zarr(f"{store.location}/videos/dog", consolidated=False, chunks=None)
    tree = xarray.open_datatree(store.location, engine="zarr", consolidated=False)
    for dataset in (alone, tree["videos/dog"].dataset):
        assert dataset["tokens"].dims == ("layer", "frame", "token", "channel")
        assert dataset["embedding"].dims == ("frame", "embedding_channel")
        np.testing.assert_array_equal(dataset["tokens"], exact.tokens)
        np.testing.assert_array_equal(dataset["embedding"], EMBEDDINGS["dog"])
        assert dataset.attrs["video_id"] == "dog"
    (queries,) = tree["parts/queries"].children.values()
    assert "a dog runs" in queries.dataset["texts"].to_numpy()
    assert queries["tokens"].dims == ("word", "layer", "channel")
    (index,) = tree["parts/index"].children.values()
    assert index["texts"].sizes["row"] == 2


@pytest.mark.parametrize("zipped", [False, True])
def test_a_dataset_holds_what_the_store_does(
    store: FeatureStore, tmp_path: Path, zipped: bool
) -> None:
    if zipped:
        store = FeatureStore.open(pack(Path(store.location), tmp_path / "feats.zip"))
    datasets = store.to_xarray()
    assert list(datasets) == list(store)
    assert len(datasets) == 2
    assert "dog" in datasets
    assert "cat" not in datasets
    with pytest.raises(FeatureNotFoundError):
        datasets["cat"]
    for video_id, dataset in datasets.items():
        video = store.read_video(video_id)
        np.testing.assert_array_equal(dataset["tokens"], video.tokens)
        np.testing.assert_array_equal(dataset["embedding"], EMBEDDINGS[video_id])
        if video.scale is not None:
            np.testing.assert_array_equal(dataset["scale"], video.scale)
            np.testing.assert_array_equal(dataset["offset"], video.offset)
        assert dataset["layer"].values.tolist() == [10, 11, 12]
        assert dataset["start_seconds"].values.tolist() == [
            2.0 * n for n in range(LENGTHS[video_id])
        ]
        assert dataset.attrs["digest"] == store.video_row(video_id).digest


def test_only_what_is_asked_for_is_read(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[slice, slice]] = []
    locate = store.locate_video

    def noted(video_id: str, *, layers: slice, frames: slice) -> object:
        read.append((layers, frames))
        return locate(video_id, layers=layers, frames=frames)

    monkeypatch.setattr(store, "locate_video", noted)
    tokens = store.to_xarray()["-x y"]["tokens"]
    exact = locate("-x y").read().tokens
    some = tokens.sel(layer=11).isel(frame=slice(140, 160, 2), token=0)
    reverse = tokens.isel(layer=[2, 0], frame=slice(9, 2, -3))
    assert read == []
    np.testing.assert_array_equal(some, exact[1, 140:160:2, 0])
    assert read == [(slice(1, 2), slice(140, 159))]
    np.testing.assert_array_equal(reverse, exact[[2, 0], 9:2:-3])
    assert tokens.isel(frame=slice(0, 0)).values.shape == (3, 0, 3, 8)
    np.testing.assert_array_equal(tokens[-1, -1, :, 3], exact[-1, -1, :, 3])
    assert sum(frames.stop - frames.start for _, frames in read) < 30


def test_without_xarray_the_message_says_how_to_get_it(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "r2t.store.xarray_view", raising=False)
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[xarray\]'"):
        store.to_xarray()
