"""Stores of format version 1 are read for ever: two that were written by it, value by value.

`tests/data/stores_v1.tar.xz` holds `float16.zarr` and `int8.zarr`. This program made them, with
`numbers` below and tests/features.py, and with the last r2t that wrote format version 1; a later
one cannot make them again:

    def query(query_id, video_id, text, words, split, labels=None, moments=((1.0, 3.5),)):
        annotation = Annotation(
            query_id=query_id, video_id=video_id, query=text, split=split,
            moments=np.array(moments, np.float64).reshape(-1, 2),
            saliency=labels and SaliencyLabels(np.array(labels, np.float32), 2.0, 0.0, 4.0),
            domain="pets", duration_seconds=None if video_id == "é." else 12.25,
        )
        return annotation, QueryFeatures(query_id, numbers(3, words, 6, period=13))

    for dtype in ("float16", "int8"):
        store = FeatureStore.create(f"{dtype}.zarr", small_spec(dtype=dtype), {"by": "version 1"})
        for videos in ({"dog": 3, "-x y": 151}, {"é.": 4}):
            with store.writer() as writer:
                for number, (video_id, length) in enumerate(videos.items()):
                    write_video(writer, video_id, numbers(3, length, 3, 8, period=17 + number))
        with store.writer() as writer:
            writer.add_queries(*columns(
                query("q1", "dog", "a dog runs", 4, "val", [[0, 1], [2, 3], [4, 0.5]]),
                query("q2", "é.", "a café", 7, "test", moments=()),
            ))
            writer.add_queries(*columns(query("q3", "-x y", "old words", 5, "train")))
        change_queries(f"{dtype}.zarr", [query("q3", "-x y", "new words", 5, "train")])
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from features import SOURCE, pack, small_spec, unpack_version_1
from numpy.typing import NDArray

from r2t.store import FeatureStore
from r2t.store.check.verify import verify_store
from r2t.store.errors import FeatureNotFoundError, StoreError

VIDEOS = {"dog": (3, 17), "-x y": (151, 18), "é.": (4, 17)}
VIDEO_DIGESTS = {
    "float16": [
        "sha256:e00bce95a90fba6d4800fbeaf2c17b523b5a579cc4419ca5a9a5ab85cd8d8f69",
        "sha256:3683dd64524eb7873eea11acafaff05f3f07ed0d95fb09fb6170ea7998e46fa2",
        "sha256:5664d1f458b15e1de565c7e59ed723ab76469b2546687b5ee3d1740c1e10f820",
    ],
    "int8": [
        "sha256:5772b5a2a484e8d98b44d878580eeaa6ae056d064ef773c5b065e22ba8420288",
        "sha256:441ec1c7f16dcc3794dc9acf6aed45fa65e624ac344ed7aad1071539bdaddc11",
        "sha256:6a4b510fa0f366b9ed86502bae6427a5c217eebba0d6a5637d8bd4f5874f1aa9",
    ],
}
QUERY_DIGESTS = {
    "q1": "sha256:425510241e14e4702be18f7ba93753cf33d29589d5031113c89f1bc5f53d2b02",
    "q2": "sha256:201a45790978db1fc4c129b4509e5f9d94b01c8ca85fc3dbafd57a771f7e2572",
    "q3": "sha256:069456594b58c6eb3e151866a1ca843c21c88137e29b64ac39c31bb598da9e60",
}


def numbers(*shape: int, period: int) -> NDArray[np.float16]:
    values = np.arange(np.prod(shape)).reshape(shape) % period
    return ((values - period // 2) / 8).astype(np.float16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("version-1")
    unpack_version_1(folder)
    for dtype in ("float16", "int8"):
        pack(folder / f"{dtype}.zarr", folder / f"{dtype}.zip")
    return folder


@pytest.fixture(scope="module", params=["float16.zarr", "int8.zarr", "float16.zip", "int8.zip"])
def store(request: pytest.FixtureRequest, folder: Path) -> FeatureStore:
    return FeatureStore.open(folder / request.param)


def test_they_lie_as_the_document_says(folder: Path) -> None:
    for path in (folder / "float16.zarr", folder / "int8.zarr"):
        root = zarr.open_group(path, mode="r")
        header: Any = root.attrs["r2t"]
        assert set(header) == {"format_version", "identity", "provenance"}
        assert header["format_version"] == 1
        assert not {"prefix", "grid", "text_rule"} & set(header["identity"])
        assert set(root.group_keys()) == {"videos", "index", "queries"}
        video: Any = root["videos/dog"]
        assert "attributes_digest" not in video.attrs
        assert video["tokens"].metadata.dimension_names == ("layers", "frames", "tokens", "width")
        for kind in ("index", "queries"):
            for _, part in root.require_group(kind).groups():
                (num_rows,) = part["video_id"].shape  # pyright: ignore[reportAttributeAccessIssue]
                assert part["duration_seconds"].shape == (num_rows,)  # pyright: ignore[reportAttributeAccessIssue]
                assert ("tokens_offsets" in part) == (kind == "queries")


def test_the_header(store: FeatureStore) -> None:
    assert store.spec == small_spec(dtype=store.spec.dtype)
    assert set(store.provenance) == {"by", "created"}
    assert store.provenance["by"] == "version 1"


def test_the_index(store: FeatureStore) -> None:
    assert store.videos.to_dict("list") == {
        "video_id": ["dog", "-x y", "é."],
        "num_frames": [3, 151, 4],
        "duration_seconds": [6.0, 302.0, 8.0],
        "frame_rate_fps": [0.5] * 3,
        "decoder": [SOURCE.decoder] * 3,
        "source_name": [SOURCE.name] * 3,
        "source_bytes": [SOURCE.num_bytes] * 3,
        "source_sha256": [SOURCE.sha256] * 3,
        "digest": VIDEO_DIGESTS[store.spec.dtype],
    }


@pytest.mark.parametrize("video_id", VIDEOS)
def test_every_video(store: FeatureStore, video_id: str) -> None:
    num_frames, period = VIDEOS[video_id]
    exact = numbers(3, num_frames, 3, 8, period=period)
    video = store.read_video(video_id)
    assert (video.duration_seconds, video.frame_rate_fps) == (2.0 * num_frames, 0.5)
    assert video.source == SOURCE
    if store.spec.dtype == "float16":
        np.testing.assert_array_equal(video.tokens, exact)
    else:
        assert video.scale is not None
        scale = video.scale[:, None, None]
        assert (np.abs(video.decoded() - exact) <= 0.51 * scale + 1e-6).all()
    some = store.read_video(video_id, layers=slice(1, 3), frames=slice(1, 3))
    np.testing.assert_array_equal(some.tokens, video.tokens[1:3, 1:3])


def test_every_query(store: FeatureStore) -> None:
    assert store.query_digests() == QUERY_DIGESTS
    first, second, third = store.annotations()
    assert [each.query for each in (first, second, third)] == ["a dog runs", "a café", "new words"]
    assert [each.video_id for each in (first, second, third)] == ["dog", "é.", "-x y"]
    assert [each.split for each in (first, second, third)] == ["val", "test", "train"]
    assert [each.domain for each in (first, second, third)] == ["pets"] * 3
    assert [each.duration_seconds for each in (first, second, third)] == [12.25, None, 12.25]
    moments: list[Any] = [each.moments.tolist() for each in (first, second, third)]
    assert moments == [[[1.0, 3.5]], [], [[1.0, 3.5]]]
    assert first.saliency is not None
    assert first.saliency.scores.tolist() == [[0, 1], [2, 3], [4, 0.5]]
    scale = (first.saliency.clip_seconds, first.saliency.lowest, first.saliency.highest)
    assert scale == (2.0, 0.0, 4.0)
    assert (second.saliency, third.saliency) == (None, None)
    for query_id, words in {"q1": 4, "q2": 7, "q3": 5}.items():
        tokens = store.read_query(query_id).tokens
        np.testing.assert_array_equal(tokens, numbers(3, words, 6, period=13))


def test_they_have_no_embeddings(store: FeatureStore) -> None:
    assert store.embedding is None
    assert store.read_video("dog").embedding is None
    assert store.read_query("q1").embedding is None
    with pytest.raises(FeatureNotFoundError, match="r2t store upgrade"):
        store.read_embedding("dog")


def test_nothing_is_added_to_them(folder: Path) -> None:
    path = folder / "float16.zarr"
    with pytest.raises(StoreError, match=r"only read; `r2t store upgrade .*float16.zarr`"):
        FeatureStore.create(path, small_spec())
    with pytest.raises(StoreError, match="format version 1, which is only read"):
        FeatureStore.open(path).writer()


def test_nothing_is_wrong_with_them(store: FeatureStore) -> None:
    report = verify_store(store.location)
    assert report.faults == ()
    assert (report.num_videos, report.num_queries, report.num_replaced_parts) == (3, 3, 1)
