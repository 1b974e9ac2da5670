"""Opening and reading stores: what is asked for, and nothing that is damaged."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from features import SOURCE, columns, pack, random_tokens, small_query, small_spec, write_video
from hypothesis import HealthCheck, assume, given, settings, strategies as st

from r2t.store import FeatureStore
from r2t.store.errors import (
    CorruptFeatureError,
    FeatureNotFoundError,
    R2TError,
    SpecMismatchError,
    StoreError,
)
from r2t.store.format.layout import node_name
from r2t.store.quantize import dequantize

LONG = 301  # frames of three shards: 101, 101, 99
TOKENS = {"dog": random_tokens(5, seed=1), "-x y": random_tokens(LONG, seed=2)}


@pytest.fixture(scope="module", params=["float16", "int8"])
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    path = tmp_path_factory.mktemp("full") / "feats.zarr"
    store = FeatureStore.create(path, small_spec(dtype=request.param), {"by": "a test"})
    with store.writer() as writer:
        for video_id, tokens in TOKENS.items():
            write_video(writer, video_id, tokens)
        writer.add_queries(*columns(small_query("q1"), small_query("q2", "-x y", seed=1)))
    return store


@pytest.fixture
def path(full: FeatureStore, tmp_path: Path) -> Path:
    """A copy of the full store, to damage."""
    return Path(shutil.copytree(full.location, tmp_path / "feats.zarr"))


def shard(path: Path, video_id: str = "-x y", number: int = 1) -> Path:
    return path / "videos" / node_name(video_id) / "tokens" / "c" / "0" / str(number) / "0" / "0"


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    metadata = json.loads(path.read_bytes())
    change(metadata)
    path.write_text(json.dumps(metadata))


def test_the_layout_on_disk_is_what_plain_zarr_sees(full: FeatureStore) -> None:
    root = zarr.open_group(full.location, mode="r")
    header: Any = root.attrs["r2t"]
    assert header["format_version"] == 2
    assert header["identity"] == full.spec.to_dict()
    assert header["provenance"].keys() == {"by", "created"}
    assert set(root.group_keys()) == {"videos", "parts"}
    itemsize = 2 if full.spec.dtype == "float16" else 1
    for video_id, num_shards, shard_frames in (("dog", 1, 5), ("-x y", 3, 101)):
        num_frames = TOKENS[video_id].shape[1]
        node: Any = root[f"videos/{node_name(video_id)}"]
        array = node["tokens"]
        assert array.shape == (3, num_frames, 3, 8)
        assert array.dtype == full.spec.dtype
        assert array.chunks == (1, shard_frames, 3, 8)
        assert array.shards == (3, shard_frames, 3, 8)
        assert array.compressors == ()
        assert array.metadata.dimension_names == ("layer", "frame", "token", "channel")
        files = [file for file in Path(full.location, array.path, "c").rglob("*") if file.is_file()]
        assert len(files) == num_shards
        assert {file.stat().st_size for file in files} == {
            3 * shard_frames * 3 * 8 * itemsize + 16 * 3 + 4
        }
        attributes = node.attrs.asdict()
        assert attributes.pop("digest").startswith("sha256:")
        assert attributes.pop("attributes_digest").startswith("sha256:")
        if full.spec.dtype == "int8":
            assert len(attributes.pop("quantization_error")["relative_l2_mean"]) == 3
        assert attributes == {
            "video_id": video_id,
            "num_frames": num_frames,
            "duration_seconds": 2.0 * num_frames,
            "frame_rate_fps": 0.5,
            "decoder": "decord",
            "source": {"name": "dog.mp4", "bytes": 7, "sha256": "ab", "licence": "CC0"},
        }
        for name in ("scale", "offset") if full.spec.dtype == "int8" else ():
            assert node[name].shape == (3, 8)
            assert node[name].dtype == np.float32


@pytest.mark.parametrize("video_id", TOKENS)
def test_the_digest_survives_another_chunking(
    full: FeatureStore, video_id: str, tmp_path: Path
) -> None:
    node: Any = zarr.open_group(full.location, mode="r")[f"videos/{node_name(video_id)}"]
    values = node["tokens"][...]
    elsewhere = zarr.create_array(
        str(tmp_path / "other"), shape=values.shape, dtype=values.dtype, chunks=(3, 7, 2, 8)
    )
    elsewhere[...] = values
    content = f"{full.spec.dtype} {list(values.shape)}\n".encode()
    content += np.asarray(elsewhere[...]).tobytes()
    for name in ("scale", "offset") if full.spec.dtype == "int8" else ():
        content += node[name][...].astype("<f4").tobytes()
    assert node.attrs["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"


def decoded(store: FeatureStore, video_id: str, **slices: slice) -> np.ndarray:
    video = store.read_video(video_id, **slices)
    assert (video.video_id, video.frame_rate_fps, video.source) == (video_id, 0.5, SOURCE)
    if video.scale is None or video.offset is None:
        return video.tokens
    return dequantize(video.tokens, video.scale, video.offset)


CUTS = st.none() | st.integers(-LONG - 2, LONG + 2)


@given(frames=st.tuples(CUTS, CUTS), layers=st.tuples(CUTS, CUTS), remote=st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_partial_read_is_a_slice_of_the_whole(
    full: FeatureStore, frames: tuple[Any, Any], layers: tuple[Any, Any], remote: bool
) -> None:
    store = FeatureStore.open(f"file://{full.location}") if remote else full
    chosen = {"layers": slice(*layers), "frames": slice(*frames)}
    expected = decoded(full, "-x y")[chosen["layers"], chosen["frames"]]
    if expected.size == 0:
        with pytest.raises(StoreError, match="select nothing"):
            store.read_video("-x y", **chosen)
    else:
        assert np.array_equal(decoded(store, "-x y", **chosen), expected)


@pytest.mark.parametrize("video_id", TOKENS)
def test_tokens_come_back(full: FeatureStore, video_id: str) -> None:
    tokens, exact = decoded(full, video_id), TOKENS[video_id]
    if full.spec.dtype == "float16":
        assert np.array_equal(tokens, exact)
    else:
        reach = np.ptp(exact.astype(np.float32), axis=(1, 2))[:, None, None]
        assert (np.abs(tokens - exact) <= reach / 255 / 2 + 1e-5).all()


def test_a_located_video_is_read_into_memory_of_the_callers(full: FeatureStore) -> None:
    part = {"layers": slice(1, 3), "frames": slice(90, 210)}
    expected = full.read_video("-x y", **part).tokens
    for store in (full, FeatureStore.open(f"file://{full.location}")):
        video = store.locate_video("-x y", **part)
        out = np.empty(video.shape, video.dtype)
        video.read_into(out)
        assert np.array_equal(out, expected)
        with pytest.raises(StoreError, match="given to read into"):
            video.read_into(out[:, 1:])
    ranges = full.locate_video("-x y", **part).ranges
    assert ranges is not None
    content = b"".join(r.path.read_bytes()[r.offset : r.offset + r.num_bytes] for r in ranges)
    assert content == expected.tobytes()


@pytest.mark.parametrize("steps", [slice(0, 4, 2), slice(4, 0, -1)])
def test_slices_that_skip_are_refused(full: FeatureStore, steps: slice) -> None:
    with pytest.raises(StoreError, match="or skip"):
        full.read_video("dog", frames=steps)


def test_tables_and_annotations(full: FeatureStore) -> None:
    store = FeatureStore.open(full.location)
    assert store.videos["video_id"].tolist() == ["dog", "-x y"]
    assert store.videos[["num_frames", "decoder", "source_name"]].to_numpy()[0].tolist() == [
        5,
        "decord",
        "dog.mp4",
    ]
    row = store.queries.iloc[1].to_dict()
    assert row.pop("digest").startswith("sha256:")
    assert row == {
        "query_id": "q2",
        "video_id": "-x y",
        "query": "a dog runs",
        "split": "val",
        "domain": "pets",
        "duration_seconds": 12.25,
        "num_words": 4,
        "num_moments": 1,
    }
    written, features = small_query("q2", "-x y", seed=1)
    read = store.annotations("val", "pets")[1]
    assert read.saliency is not None
    assert written.saliency is not None
    assert np.array_equal(read.saliency.scores, written.saliency.scores)
    assert np.array_equal(read.moments, written.moments)
    assert repr(read) == repr(written)
    assert np.array_equal(store.read_query("q2").tokens, features.tokens)
    assert store.annotations("train") == store.annotations("val", "cars") == []
    assert store.num_bytes() == (5 + LONG) * store.spec.frame_bytes()
    assert repr(store) == f"FeatureStore({full.location!r}, 2 videos, 2 queries)"


def test_what_is_not_there_is_named(full: FeatureStore) -> None:
    assert full.has_video("dog")
    assert not full.has_video("Dog")
    with pytest.raises(FeatureNotFoundError, match="no video 'cat'"):
        full.read_video("cat")
    with pytest.raises(FeatureNotFoundError, match="no query 'q9'"):
        full.read_query("q9")


def missing(file: Path) -> None:
    file.unlink()


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def flipped_index(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-52] ^= 1  # the first chunk would begin one byte later
    file.write_bytes(content)


def rewrite_index(file: Path, entry: int, value: int) -> None:
    """Change one number of the index and give it a valid checksum."""
    import google_crc32c

    content = file.read_bytes()
    numbers = list(struct.unpack("<6Q", content[-52:-4]))
    numbers[entry] = value
    index = struct.pack("<6Q", *numbers)
    checksum = struct.pack("<I", google_crc32c.value(index))
    file.write_bytes(content[:-52] + index + checksum)


def missing_chunk(file: Path) -> None:
    rewrite_index(file, 2, 2**64 - 1)


def chunk_past_the_end(file: Path) -> None:
    """Let the first chunk reach 8 bytes into the index, so that there are bytes to read."""
    end = file.stat().st_size - 52
    rewrite_index(file, 0, end - end // 3 + 8)


def chunk_of_another_size(file: Path) -> None:
    rewrite_index(file, 1, 2**40)


LOCAL_DAMAGE = (
    missing,
    truncated,
    emptied,
    flipped_index,
    missing_chunk,
    chunk_past_the_end,
    chunk_of_another_size,
)


@pytest.mark.parametrize("damage", LOCAL_DAMAGE)
def test_a_damaged_shard_is_never_read_as_features(
    path: Path, damage: Callable[[Path], None]
) -> None:
    damage(shard(path))
    with pytest.raises(CorruptFeatureError, match=r"c/0/1/0/0.*extract"):
        FeatureStore.open(path).read_video("-x y")


@pytest.mark.parametrize("damage", [missing, truncated, emptied, flipped_index])
def test_a_damaged_shard_is_never_read_as_features_remotely(
    path: Path, damage: Callable[[Path], None]
) -> None:
    damage(shard(path))
    with pytest.raises(CorruptFeatureError):
        FeatureStore.open(f"file://{path}").read_video("-x y")


def test_another_video_under_a_name_is_an_error(path: Path) -> None:
    (path / "videos" / "dog").rename(path / "videos" / "Dog")
    store = FeatureStore.open(path)
    for ask in (store.has_video, store.read_video):
        with pytest.raises(CorruptFeatureError, match="holds 'dog'"):
            ask("Dog")


HUGE = 10**13
ABSURD: dict[str, Any] = {
    "nothing": None,
    "no frames": 0,
    "negative": -3,
    "another number": 4,
    "infinite": float("inf"),
    "a text": "many",
    "a list": [5],
    "huge": HUGE,
}


@pytest.mark.parametrize("value", ABSURD.values(), ids=ABSURD)
@pytest.mark.parametrize("remote", [False, True])
def test_absurd_metadata_is_refused_before_memory_is_taken(
    path: Path, value: Any, remote: bool
) -> None:
    node = path / "videos" / "dog"
    edit(node / "zarr.json", lambda metadata: metadata["attributes"].update(num_frames=value))
    if value == HUGE:  # then the array agrees

        def grow(metadata: dict[str, Any]) -> None:
            metadata["shape"][1] = HUGE
            metadata["chunk_grid"]["configuration"]["chunk_shape"][1] = 150
            metadata["codecs"][0]["configuration"]["chunk_shape"][1] = 150

        edit(node / "tokens" / "zarr.json", grow)
    store = FeatureStore.open(f"file://{path}" if remote else path)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFeatureError):
            store.read_video("dog")
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@given(value=JSON, place=st.integers(0, 40), name=st.sampled_from(["", "tokens", "scale"]))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_hostile_metadata_raises_nothing_but_our_errors(
    path: Path, value: Any, place: int, name: str
) -> None:
    """Replace one value anywhere in a node's metadata."""
    store = FeatureStore.open(path)
    file = path / "videos" / "dog" / name / "zarr.json"
    assume(file.exists())
    before = file.read_bytes()

    def replace_one(metadata: dict[str, Any]) -> None:
        places: list[tuple[Any, Any]] = []
        pending: list[Any] = [metadata]
        while pending:
            node = pending.pop()
            keys = node if isinstance(node, dict) else range(len(node))
            places += [(node, key) for key in keys]
            pending += [node[key] for key in keys if isinstance(node[key], dict | list)]
        node, key = places[place % len(places)]
        node[key] = value

    edit(file, replace_one)
    try:
        with contextlib.suppress(R2TError):
            assert store.read_video("dog").tokens.shape == TOKENS["dog"].shape
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize("kind", ["index", "queries"])
@pytest.mark.parametrize("array", ["texts", "numbers"])
def test_an_array_of_a_part_is_never_read_half(path: Path, kind: str, array: str) -> None:
    (part,) = (path / "parts" / kind).glob("*-*")
    whole = (part / "zarr.json").read_bytes()

    def refuse() -> None:
        with pytest.raises(CorruptFeatureError, match=f"{kind}"):
            FeatureStore.open(path).annotations()

    def arrays(metadata: dict[str, Any]) -> Any:
        return metadata["consolidated_metadata"]["metadata"]

    edit(part / "zarr.json", lambda found: arrays(found)[array].update(shape=[HUGE, 5]))
    refuse()
    (part / "zarr.json").write_bytes(whole)
    edit(part / "zarr.json", lambda found: arrays(found).pop(array))
    refuse()
    (part / "zarr.json").write_bytes(b"{")
    refuse()
    (part / "zarr.json").write_bytes(whole)
    shutil.rmtree(part / array)
    refuse()


def test_lost_digests_of_a_part_are_noticed(path: Path) -> None:
    (part,) = (path / "parts" / "queries").glob("*-*")
    shutil.rmtree(part / "texts" / "c")
    with pytest.raises(CorruptFeatureError, match=r"texts.*missing"):
        FeatureStore.open(path)


def test_unequal_queries_of_one_id_are_refused_on_opening(path: Path) -> None:
    store = FeatureStore.open(path)
    with store.writer() as writer:
        writer.add_queries(*columns(small_query("q3", text="one")))
    (_, second) = sorted((path / "parts" / "queries").glob("*-*"))
    saved = path.parent / "saved"
    second.rename(saved)
    store = FeatureStore.open(path)
    with store.writer() as writer:
        writer.add_queries(*columns(small_query("q3", text="two")))
    saved.rename(second)
    with pytest.raises(StoreError, match="two different queries with the id 'q3'"):
        FeatureStore.open(path)


def test_equal_duplicates_in_parts_count_once(path: Path) -> None:
    for kind in ("index", "queries"):
        (part,) = (path / "parts" / kind).glob("*-*")
        shutil.copytree(part, part.with_name("20990101T000000-copy"))
    store = FeatureStore.open(path)
    assert (len(store.videos), len(store.queries)) == (2, 2)


def not_there(path: Path) -> None:
    pass


def plain_file(path: Path) -> None:
    path.write_text("hello")


def plain_folder(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("hello")


def foreign_group(path: Path) -> None:
    zarr.open_group(path, mode="w-", attributes={"other": 1})


def old_group(path: Path) -> None:
    zarr.open_group(path, mode="w-", zarr_format=2)


def lone_array(path: Path) -> None:
    zarr.create_array(path, shape=(2,), dtype="i4")


def broken_json(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text("{")


def with_header(header: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        zarr.open_group(path, mode="w-", attributes={"r2t": header})

    return make


def header(**changes: Any) -> dict[str, Any]:
    return {
        "format_version": 1,
        "identity": small_spec().to_dict(),
        "provenance": {},
        **changes,
    }


FOREIGN = {
    "missing": (not_there, "does not exist"),
    "file": (plain_file, "no r2t feature store"),
    "folder": (plain_folder, "no r2t feature store"),
    "zarr group": (foreign_group, "no r2t feature store"),
    "zarr version 2": (old_group, "no r2t feature store"),
    "zarr array": (lone_array, "no r2t feature store"),
    "broken": (broken_json, r"cannot read .*zarr\.json"),
    "header is text": (with_header("hi"), "no r2t feature store"),
    "newer": (with_header(header(format_version=3)), "version 3.*install a newer"),
    "no identity": (with_header(header(identity=None)), "damaged"),
    "identity is a list": (with_header(header(identity=[1])), "damaged"),
    "provenance is text": (with_header(header(provenance="x")), "damaged"),
    "empty identity": (with_header(header(identity={})), "identity of the features lacks"),
    "no groups": (with_header(header()), "index/zarr.json is missing"),
}


@pytest.mark.parametrize(("make", "message"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_store_is_refused_and_left_alone(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "feats.zarr"
    make(path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StoreError, match=message):
        FeatureStore.open(path)
    if path.exists():
        with pytest.raises(StoreError, match=message):
            FeatureStore.create(path, small_spec())
    assert sorted(tmp_path.rglob("*")) == before


def test_creating_again_opens_what_is_there(path: Path, full: FeatureStore) -> None:
    store = FeatureStore.create(path, full.spec, {"by": "another"})
    assert store.provenance["by"] == "a test"
    other = small_spec(dtype=full.spec.dtype, model="large", num_tokens=4)
    with pytest.raises(
        SpecMismatchError, match=r"--model: 'small' in .*, 'large' in this extraction; num_tokens"
    ):
        FeatureStore.create(path, other)


def test_an_empty_folder_becomes_a_store(tmp_path: Path) -> None:
    FeatureStore.create(tmp_path, small_spec())
    assert FeatureStore.open(tmp_path).spec == small_spec()


@pytest.mark.parametrize(
    "location", ["memory://nowhere", "foo://bar", "zip:://nowhere.zip", "file:///nowhere"]
)
def test_urls_that_lead_nowhere_are_store_errors(location: str) -> None:
    with pytest.raises(StoreError):
        FeatureStore.open(location)


def test_a_zip_of_a_store_is_read_where_it_lies(full: FeatureStore, tmp_path: Path) -> None:
    packed = pack(Path(full.location), tmp_path / "feats.zip")
    FeatureStore.open(packed)
    store = FeatureStore.open(f"zip::{packed}")
    assert store.queries["query_id"].tolist() == ["q1", "q2"]
    part = {"layers": slice(-2, None), "frames": slice(90, 210)}
    assert np.array_equal(decoded(store, "-x y", **part), decoded(full, "-x y", **part))
    with pytest.raises(StoreError, match="is read-only"):
        store.writer()
    with pytest.raises(StoreError, match="local disk"):
        FeatureStore.create(f"zip::{packed}", store.spec)
