"""Stores of people who mean harm: refused with our errors, in bounded memory, inside the store."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tracemalloc
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from features import (
    columns,
    committed_parts,
    pack,
    random_tokens,
    small_query,
    small_spec,
    write_video,
)
from hypothesis import HealthCheck, given, settings, strategies as st

from r2t.cli.commands.store.info import summarise_store
from r2t.store import FeatureStore
from r2t.store.change.repair import repair_store
from r2t.store.check.verify import verify_store
from r2t.store.errors import CorruptFeatureError, R2TError, StoreError
from r2t.store.format.part_writer import PartWriter
from r2t.store.format.video_rows import video_columns
from r2t.store.publish.local import LocalPublisher
from r2t.store.schema import FORMAT_VERSION

_many = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module", params=["float16", "int8"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "feats.zarr"
    with FeatureStore.create(path, small_spec(dtype=request.param)).writer() as writer:
        write_video(writer, "dog", random_tokens(5, seed=1))
        writer.add_queries(*columns(small_query("q1"), small_query("q2", seed=1)))
    return path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    """A copy of the store, to change."""
    return Path(shutil.copytree(whole, tmp_path / "feats.zarr"))


def read_all(path: Path) -> tuple[list[str], list[str], tuple[int, ...]]:
    """Read everything; return ids and a shape."""
    store = FeatureStore.open(path)
    queries = store.queries["query_id"].tolist()
    for query_id in queries:
        store.read_query(query_id)
    store.annotations()
    return store.videos["video_id"].tolist(), queries, store.read_video("dog").tokens.shape


WHOLE = (["dog"], ["q1", "q2"], (3, 5, 3, 8))


@contextlib.contextmanager
def little_memory() -> Generator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 2e7
    finally:
        tracemalloc.stop()


@given(video_id=st.text(max_size=12) | st.sampled_from(["../outside", "..", "/etc/passwd", "\0"]))
@_many
def test_no_id_leads_out_of_the_store(whole: Path, video_id: str) -> None:
    store = FeatureStore.open(whole)
    outside = whole.parent / "outside"
    if not outside.exists():
        shutil.copytree(whole / "videos" / "dog", outside)
    if video_id != "dog":
        with contextlib.suppress(R2TError):
            assert not store.has_video(video_id)


def link(place: Path, elsewhere: Path) -> None:
    place.rename(elsewhere)
    place.symlink_to(elsewhere)


def pipe(place: Path, elsewhere: Path) -> None:
    place.rename(elsewhere)
    os.mkfifo(place)


@pytest.mark.parametrize("replace", [link, pipe])
@pytest.mark.parametrize(
    "name",
    [
        "zarr.json",
        "videos/dog/zarr.json",
        "videos/dog/tokens/zarr.json",
        "videos/dog/tokens/c/0/0/0/0",
        "parts/index/*-*/zarr.json",
        "parts/index/*-*/texts/c/0/0",
        "parts/queries/*-*/tokens/c/0/0/0",
    ],
)
def test_links_and_pipes_are_not_followed(
    path: Path, replace: Callable[[Path, Path], None], name: str
) -> None:
    (place,) = path.glob(name)
    replace(place, path.parent / "elsewhere")
    with pytest.raises(StoreError, match=r"symbolic link|no file"):
        read_all(path)


def test_a_linked_folder_is_not_followed(path: Path) -> None:
    link(path / "videos" / "dog" / "tokens", path.parent / "elsewhere")
    with pytest.raises(CorruptFeatureError, match="symbolic link"):
        read_all(path)


def change(place: Path, key: str, value: Any) -> None:
    metadata = json.loads(place.read_bytes())
    metadata[key] = value
    place.write_text(json.dumps(metadata))


def change_array(place: Path, name: str, **changes: Any) -> None:
    """Change what the metadata of a part says of one of its arrays."""
    consolidated = json.loads(place.read_bytes())["consolidated_metadata"]
    consolidated["metadata"][name].update(changes)
    change(place, "consolidated_metadata", consolidated)


GZIP = {"name": "gzip", "configuration": {"level": 9}}
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
PIPELINES: dict[str, list[Any]] = {
    "a bomb": [LITTLE, GZIP],
    "two bombs": [LITTLE, GZIP, GZIP],
    "big-endian": [{"name": "bytes", "configuration": {"endian": "big"}}],
    "transposed": [{"name": "transpose", "configuration": {"order": [0]}}, LITTLE],
    "unknown": [LITTLE, {"name": "pickle"}],
    "none": [],
}


@pytest.mark.parametrize("codecs", PIPELINES.values(), ids=PIPELINES)
@pytest.mark.parametrize(
    ("kind", "name"), [("index", "numbers"), ("index", "texts"), ("queries", "tokens")]
)
def test_other_codecs_are_refused(path: Path, kind: str, name: str, codecs: list[Any]) -> None:
    (place,) = path.glob(f"parts/{kind}/*-*/zarr.json")
    change_array(place, name, codecs=codecs)
    with pytest.raises(CorruptFeatureError, match="no array that a part may have"):
        read_all(path)


@pytest.mark.parametrize("place", ["codecs", "index_codecs"])
def test_other_codecs_within_a_shard_are_refused(path: Path, place: str) -> None:
    file = path / "videos" / "dog" / "tokens" / "zarr.json"
    metadata = json.loads(file.read_bytes())
    metadata["codecs"][0]["configuration"][place].append(GZIP)
    file.write_text(json.dumps(metadata))
    with pytest.raises(CorruptFeatureError):
        read_all(path)


@pytest.mark.parametrize("count", [2**32 - 1, 10**6, 3, 0])
def test_a_column_of_texts_that_claims_too_many(path: Path, count: int) -> None:
    (chunk,) = path.glob("parts/queries/*-*/texts/c/0/0")
    chunk.write_bytes(count.to_bytes(4, "little") + chunk.read_bytes()[4:])
    with little_memory(), pytest.raises(CorruptFeatureError, match="texts"):
        read_all(path)


@pytest.mark.parametrize("rows", [10**5, 10**8, 10**15])
def test_a_part_that_claims_many_rows_takes_no_memory(path: Path, rows: int) -> None:
    (file,) = path.glob("parts/index/*-*/zarr.json")
    for name, columns_of in (("texts", 5), ("numbers", 4)):
        grid = {"name": "regular", "configuration": {"chunk_shape": [rows, columns_of]}}
        change_array(file, name, shape=[rows, columns_of], chunk_grid=grid)
    with little_memory(), pytest.raises(CorruptFeatureError):
        FeatureStore.open(path)


@pytest.mark.parametrize("name", ["zarr.json", "videos/dog/zarr.json", "parts/index/*-*/zarr.json"])
@pytest.mark.parametrize("content", [b"[" * 10**5, b'"' + b"x" * 3 * 2**20 + b'"', b"\xff", b"7"])
def test_metadata_that_is_deep_or_long_is_refused(path: Path, name: str, content: bytes) -> None:
    (place,) = path.glob(name)
    place.write_bytes(content)
    with little_memory(), pytest.raises(StoreError):
        read_all(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@given(data=st.data())
@_many
def test_one_value_of_a_parts_metadata_replaced(path: Path, data: st.DataObject) -> None:
    files = sorted(path.glob("parts/**/zarr.json"))
    file = data.draw(st.sampled_from(files))
    before = file.read_bytes()
    metadata = json.loads(before)
    places: list[tuple[Any, Any]] = []
    waiting: list[Any] = [metadata]
    while waiting:
        node = waiting.pop()
        keys = node if isinstance(node, dict) else range(len(node))
        places += [(node, key) for key in keys]
        waiting += [node[key] for key in keys if isinstance(node[key], dict | list)]
    node, key = data.draw(st.sampled_from(places))
    node[key] = data.draw(JSON)
    file.write_text(json.dumps(metadata))
    try:
        with contextlib.suppress(R2TError):
            assert read_all(path) == WHOLE
    finally:
        file.write_bytes(before)


@given(data=st.data())
@_many
def test_bytes_of_a_part_replaced(path: Path, data: st.DataObject) -> None:
    """What no checksum covers may read as other values, never as another number of them."""
    files = sorted(file for file in path.glob("parts/*/*-*/*/c/**/*") if file.is_file())
    file = data.draw(st.sampled_from(files))
    before = file.read_bytes()
    start = data.draw(st.integers(0, len(before)))
    stop = data.draw(st.integers(start, len(before)))
    file.write_bytes(before[:start] + data.draw(st.binary(max_size=8)) + before[stop:])
    try:
        with contextlib.suppress(R2TError), little_memory():
            videos, queries, _ = read_all(path)
            assert (len(videos), len(queries)) in ((1, 2), (1, 1))
    finally:
        file.write_bytes(before)


@given(data=st.data())
@_many
def test_bytes_of_a_zip_replaced(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    packed = tmp_path / "feats.zip"
    if not packed.exists():
        pack(whole, packed)
    content = packed.read_bytes()
    start = data.draw(st.integers(0, len(content)))
    stop = data.draw(st.integers(start, min(len(content), start + 40)))
    changed = tmp_path / "changed.zip"
    changed.write_bytes(content[:start] + data.draw(st.binary(max_size=8)) + content[stop:])
    with contextlib.suppress(R2TError), little_memory():
        assert read_all(changed)[2] == WHOLE[2]


def test_affines_that_are_no_numbers_are_refused(path: Path) -> None:
    if not (path / "videos" / "dog" / "scale").exists():
        pytest.skip("float16 has none")
    file = path / "videos" / "dog" / "scale" / "c" / "0" / "0"
    file.write_bytes(b"\xff" * file.stat().st_size)
    with pytest.raises(CorruptFeatureError, match="NaN"):
        read_all(path)


NUMBERS = [float("nan"), float("inf"), 10**400, -(10**400), 2**70, -1, True, "7", None, []]
HEADER: tuple[str, ...] = ("attributes", "r2t", "identity")


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("zarr.json", (*HEADER, "frame_rate")),
        ("zarr.json", (*HEADER, "image_size")),
        ("zarr.json", (*HEADER, "vision_width")),
        ("zarr.json", (*HEADER, "std", 0)),
        ("zarr.json", (*HEADER, "vision_layers", 2)),
        ("videos/dog/zarr.json", ("attributes", "num_frames")),
        ("videos/dog/zarr.json", ("attributes", "duration_seconds")),
        ("videos/dog/zarr.json", ("attributes", "frame_rate_fps")),
        ("videos/dog/zarr.json", ("attributes", "source", "bytes")),
        ("videos/dog/zarr.json", ("attributes", "quantization_error", "relative_l2_max", 1)),
    ],
)
def test_a_number_that_cannot_be_is_damage(path: Path, name: str, keys: tuple[Any, ...]) -> None:
    metadata = json.loads((path / name).read_bytes())
    place = metadata
    for key in keys[:-1]:
        if key not in place and key == "quantization_error":
            return  # of a float16 store
        place = place[key]
    for number in NUMBERS:
        if number == 2**70 and "quantization_error" in keys:
            continue  # absurd, but nothing says how large an error may be
        place[keys[-1]] = number
        (path / name).write_text(json.dumps(metadata))
        try:
            faults = verify_store(path, quick=True).faults
        except StoreError:  # the header decides whether there is a store to look at
            assert name == "zarr.json", number
        else:
            found = [each.place for each in faults if each.kind in ("video", "attributes")]
            assert name == "zarr.json" or found == ["videos/dog"], number
        with contextlib.suppress(R2TError):
            json.dumps(summarise_store(FeatureStore.open(path)), allow_nan=False)
        with contextlib.suppress(R2TError):
            read_all(path)
    if name != "zarr.json":
        assert repair_store(path).extract_again == ()
        assert verify_store(path).faults == ()


@pytest.mark.parametrize(
    ("column", "value"),
    [("duration_seconds", np.nan), ("frame_rate_fps", np.inf), ("num_frames", -1)],
)
def test_an_index_of_impossible_numbers_is_refused_and_mended(
    path: Path, column: str, value: float
) -> None:
    row = FeatureStore.open(path).video_row("dog")
    parts = PartWriter(LocalPublisher(path, path.parent), FeatureStore.open(path).header)
    parts.drop("index", committed_parts(path, "index", FORMAT_VERSION))
    parts.commit("index", video_columns([replace(row, **{column: value})]))
    with pytest.raises(CorruptFeatureError, match=rf"{column} holds .*repair` makes the index"):
        FeatureStore.open(path)
    assert [fault.kind for fault in verify_store(path).faults] == ["part", "not-indexed"]
    repair_store(path)
    assert read_all(path) == WHOLE
