"""What changes stores carries embeddings along, reads format version 1, and never mixes the two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from damaged_stores import flip
from features import (
    columns,
    committed_parts,
    random_embeddings,
    random_tokens,
    small_query,
    small_spec,
    unpack_version_1,
    write_video,
)

from r2t.store import Annotation, EmbeddingSpec, FeatureStore, QueryFeatures
from r2t.store.change.licence import licences, set_licence
from r2t.store.change.merge import merge_stores
from r2t.store.change.pack import pack_store
from r2t.store.change.remove import remove_videos
from r2t.store.change.repair import repair_store
from r2t.store.change.rewrite import change_queries
from r2t.store.change.subset import subset_store
from r2t.store.check.verify import verify_store
from r2t.store.errors import ConfigError, SpecMismatchError, StoreError
from r2t.store.exchange.hdf5 import export_hdf5

LENGTHS = {"dog": 5, "-x y": 151}
TOKENS = {video_id: random_tokens(length) for video_id, length in LENGTHS.items()}
EMBEDDINGS = {video_id: random_embeddings(length) for video_id, length in LENGTHS.items()}


def embedded_query(query_id: str, **options: Any) -> tuple[Annotation, QueryFeatures]:
    annotation, features = small_query(query_id, **options)
    return annotation, replace(features, embedding=random_embeddings(1)[0])


def make(path: Path, embeddings: Any = EMBEDDINGS) -> Path:
    store = FeatureStore.create(path, small_spec(), embedding=EmbeddingSpec(5))
    with store.writer() as writer:
        for video_id, tokens in TOKENS.items():
            write_video(writer, video_id, tokens, 64, embeddings[video_id])
        writer.add_queries(*columns(embedded_query("q1"), embedded_query("q2", seed=1)))
    return path


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("original") / "feats.zarr")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    unpack_version_1(tmp_path)
    return tmp_path / "float16.zarr"


def unpack(original: Path, into: Path) -> None:
    merge_stores(pack_store(original, into.with_name("feats.zip")).archives, into, link=False)


def change_one(original: Path, into: Path) -> None:
    merge_stores([original], into)
    change_queries(into, [embedded_query("q2", seed=1)])
    set_licence(into, "CC-BY-4.0")
    remove_videos(into, [], query_ids=[])
    repair_store(into)
    assert licences(into) == dict.fromkeys(LENGTHS, "CC-BY-4.0")


CARRY: dict[str, Callable[[Path, Path], object]] = {
    "merged by links": lambda original, into: merge_stores([original], into),
    "packed and unpacked": unpack,
    "a subset": lambda original, into: subset_store(original, into, split="val"),
    "CLS tokens alone": lambda original, into: subset_store(original, into, cls_only=True),
    "some layers": lambda original, into: subset_store(original, into, layers=(0, 1)),
    "changed and repaired": change_one,
}


@pytest.mark.parametrize("carry", CARRY.values(), ids=CARRY)
def test_embeddings_are_carried_along(
    original: Path, tmp_path: Path, carry: Callable[[Path, Path], object]
) -> None:
    carry(original, tmp_path / "new.zarr")
    store = FeatureStore.open(tmp_path / "new.zarr")
    assert store.embedding == EmbeddingSpec(5)
    for video_id in store:
        np.testing.assert_array_equal(store.read_embedding(video_id), EMBEDDINGS[video_id])
    for query_id in store.query_digests():
        found = store.read_query(query_id).embedding
        np.testing.assert_array_equal(found, random_embeddings(1)[0])
    assert len(store.queries) == 2
    assert verify_store(tmp_path / "new.zarr").faults == ()


def test_hdf5_holds_embeddings(original: Path, tmp_path: Path) -> None:
    export_hdf5(FeatureStore.open(original), tmp_path / "feats.h5")
    with h5py.File(tmp_path / "feats.h5") as found:
        file: Any = found
        np.testing.assert_array_equal(file["videos/-x%20y/embedding"][...], EMBEDDINGS["-x y"])
        assert file["videos/dog"].attrs["embedding_from"] == "frames"
        np.testing.assert_array_equal(file["queries/q1/embedding"][...], random_embeddings(1)[0])


def test_damaged_embeddings_are_named_and_extracted_again(original: Path, tmp_path: Path) -> None:
    merge_stores([original], tmp_path / "new.zarr", link=False)
    flip(tmp_path / "new.zarr" / "videos" / "dog" / "embedding" / "c" / "0" / "0", 0)
    (fault,) = verify_store(tmp_path / "new.zarr").faults
    assert str(fault).startswith("video: videos/dog: the stored embeddings have the digest sha256:")
    assert repair_store(tmp_path / "new.zarr").extract_again == ("dog",)


def test_of_one_video_with_two_embeddings_the_first_stays(original: Path, tmp_path: Path) -> None:
    others = {video_id: random_embeddings(n, seed=9) for video_id, n in LENGTHS.items()}
    other = make(tmp_path / "other.zarr", others)
    merge_stores([other, original], tmp_path / "new.zarr")
    found = FeatureStore.open(tmp_path / "new.zarr").read_embedding("dog")
    np.testing.assert_array_equal(found, others["dog"])
    assert merge_stores([original], tmp_path / "new.zarr").num_present == 2
    with FeatureStore.open(tmp_path / "new.zarr").writer() as writer:
        write_video(writer, "dog", TOKENS["dog"], None, EMBEDDINGS["dog"])
    assert verify_store(tmp_path / "new.zarr").faults == ()


def test_what_cannot_be_brought_together_is_refused(
    original: Path, old: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.zarr"
    FeatureStore.create(bare, small_spec())
    new = tmp_path / "new.zarr"
    with pytest.raises(StoreError, match=r"float16.zarr has format version 1.*store upgrade"):
        merge_stores([original, old], new)
    with pytest.raises(SpecMismatchError, match=r"no embeddings.*embeddings of width 5"):
        merge_stores([bare, original], new)
    assert not new.exists()
    with pytest.raises(SpecMismatchError, match=r"bare.zarr has no embeddings"):
        merge_stores([original], bare)
    with pytest.raises(SpecMismatchError, match=r"has no embeddings"):
        subset_store(old, original)
    for add in (
        lambda: merge_stores([bare], old),
        lambda: change_queries(old, [small_query("q1")]),
        lambda: FeatureStore.open(old).writer(),
    ):
        with pytest.raises(StoreError, match=r"version 1, which is only read; `r2t store upgrade"):
            add()
    with pytest.raises(ConfigError, match="embeddings of width 5, none was given"):
        change_queries(original, [small_query("q1")])


def test_version_1_is_taken_from_and_made_version_2(old: Path, tmp_path: Path) -> None:
    exact = FeatureStore.open(old)
    merge_stores([old], tmp_path / "merged.zarr")
    merge_stores([old], tmp_path / "merged.zarr")  # as if the first had been interrupted
    subset_store(old, tmp_path / "subset.zarr")
    merge_stores(pack_store(old, tmp_path / "old.zip").archives, tmp_path / "unpacked.zarr")
    for name in ("merged", "subset", "unpacked"):
        path = tmp_path / f"{name}.zarr"
        store = FeatureStore.open(path)
        assert (store.header.format_version, store.embedding) == (2, None)
        assert store.content_digest() == exact.content_digest()
        assert verify_store(path).faults == ()
        tokens: Any = zarr.open_group(path, mode="r")["videos/dog/tokens"]
        assert tokens.metadata.dimension_names == ("layer", "frame", "token", "channel")
    assert FeatureStore.open(tmp_path / "old.zip").header.format_version == 1
    assert verify_store(tmp_path / "old.zip").faults == ()
    assert verify_store(old).faults == ()  # its files were linked, not changed


def test_version_1_is_repaired_and_taken_out_of(old: Path) -> None:
    before = FeatureStore.open(old).content_digest()
    (part, *_) = (old / "index").glob("2*")
    flip(part / "duration_seconds" / "c" / "0", 3)
    assert "part" in {fault.kind for fault in verify_store(old).faults}
    repair_store(old)
    assert FeatureStore.open(old).content_digest() == before
    assert verify_store(old).faults == ()
    remove_videos(old, ["dog"])
    store = FeatureStore.open(old)
    assert store.header.format_version == 1
    assert sorted(store) == ["-x y", "é."]
    assert len(committed_parts(old, "index", 1)) == 1
    assert verify_store(old).faults == ()
