"""docs/store-format.md holds: stores are read with plain zarr, and as bytes, as it says.

Nothing of `r2t.store` is used to read here; it only writes what is read.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
from features import (
    columns,
    random_embeddings,
    random_tokens,
    small_query,
    small_spec,
    write_video,
)
from zarr.storage import ZipStore

from r2t.store import Annotation, EmbeddingSpec, FeatureStore, QueryFeatures
from r2t.store.change.merge import merge_stores
from r2t.store.change.pack import pack_store
from r2t.store.change.rewrite import change_queries

DOCUMENT = Path(__file__).parents[3] / "docs" / "store-format.md"
NODES = {
    "dog": "dog",
    "-x y": "-x%20y",
    "../cat%": "%2E.%2Fcat%25",
    "__b": "%5F_b",
    "zarr.json": "%7Aarr.json",
    "Con.mp4": "%43on.mp4",
    "c": "%63",
    "é.": "%C3%A9%2E",
    "ü" * 40: "%C3%BC" * 25 + "%~" + hashlib.sha256(("ü" * 40).encode()).hexdigest()[:16],
}
LENGTHS = dict.fromkeys(NODES, 3) | {"-x y": 301, "dog": 150}
TOKENS = {
    video_id: random_tokens(length, seed=number)
    for number, (video_id, length) in enumerate(LENGTHS.items())
}


EMBEDDINGS = {
    video_id: random_embeddings(length, seed=length) for video_id, length in LENGTHS.items()
}


def query(*given: Any, **more: Any) -> tuple[Annotation, QueryFeatures]:
    annotation, features = small_query(*given, **more)
    seed = len(annotation.query)
    return annotation, replace(features, embedding=random_embeddings(1, seed=seed)[0])


QUERIES = (query("q1"), query("q2", "-x y", seed=1, words=7))


@pytest.fixture(scope="module", params=["float16", "int8"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("format") / "feats.zarr"
    spec = small_spec(dtype=request.param)
    facts = {"by": "a test", "share": 0.25, "words": ["é", "\n", 1.0], "nothing": None}
    store = FeatureStore.create(path, spec, facts, embedding=EmbeddingSpec(width=5))
    with store.writer() as writer:
        for video_id, tokens in TOKENS.items():
            write_video(writer, video_id, tokens, 64, EMBEDDINGS[video_id])
        writer.add_queries(*columns(*QUERIES))
    return path


def node(path: Path, video_id: str) -> Any:
    return zarr.open_group(path, mode="r")[f"videos/{NODES[video_id]}"]


def dtype_of(path: Path) -> str:
    return str(header(path)["identity"]["dtype"])


def header(path: Path) -> Any:
    return json.loads((path / "zarr.json").read_bytes())["attributes"]["r2t"]


def part(path: Path, kind: str) -> Any:
    (name,) = header(path)["parts"][kind]
    assert [name] == [each.name for each in (path / "parts" / kind).iterdir() if each.is_dir()]
    assert re.fullmatch(r"\d{8}T\d{12}-[0-9a-f]{12}", name)
    return zarr.open_group(path, mode="r")[f"parts/{kind}/{name}"]


INTEGERS = ("num_frames", "source_bytes", "saliency_annotators")
PACKED = ("texts", "numbers", "offsets")


def columns_of(group: Any) -> dict[str, Any]:
    """Return the columns of a part by name, as the document says where they lie."""
    found: dict[str, Any] = {name: group[name][...] for name in group if name not in PACKED}
    for packed in PACKED:
        for place, name in enumerate(group.attrs.get(packed, [])):
            values = group[packed][...][:, place]
            found[name] = values.astype(np.int64) if name in INTEGERS else values
    return dict(sorted(found.items()))


def sha256(*pieces: bytes) -> str:
    return f"sha256:{hashlib.sha256(b''.join(pieces)).hexdigest()}"


def canonical_json(value: Any) -> bytes:
    """Return RFC 8785's form of values whose keys are ASCII and whose numbers are above 1e-7."""
    if isinstance(value, dict):
        pairs = (canonical_json(key) + b":" + canonical_json(value[key]) for key in sorted(value))
        return b"{" + b",".join(pairs) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(canonical_json, value)) + b"]"
    if isinstance(value, float):
        return f"{Decimal(int(value) if value.is_integer() else repr(value)):f}".encode()
    return json.dumps(value, ensure_ascii=False).encode()


def without(values: Any, key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}


def column_bytes(name: str, values: Any) -> bytes:
    data = f"{name} {list(values.shape)}\n".encode()
    if values.dtype.kind in "OTU":
        for text in values.tolist():
            encoded = str(text).encode()
            data += struct.pack("<Q", len(encoded)) + encoded
        return data
    return data + values.astype(values.dtype.newbyteorder("<")).tobytes()


def test_the_header_and_every_file(path: Path) -> None:
    found = header(path)
    assert found["format_version"] == 2
    names = {"format_version", "identity", "embedding", "provenance", "parts", "header_digest"}
    assert set(found) == names
    assert found["header_digest"] == sha256(canonical_json(without(found, "header_digest")))
    assert found["embedding"] == {"width": 5, "rule": "clip-projection-unit"}
    document = DOCUMENT.read_text(encoding="utf-8")
    for name in (*found, *found["identity"], *found["embedding"]):
        assert f"`{name}`" in document, name
    for name in ("prefix", "grid", "text_rule", "rule"):
        assert f'"{ {**found["identity"], **found["embedding"]}[name] }"' in document, name
    files = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    video = (
        r"videos/[^/]+/(zarr\.json|(tokens|scale|offset|embedding)/zarr\.json"
        r"|tokens/c/0/\d+/0/0|embedding/c/0/0"
    )
    legal = re.compile(
        rf"(videos/|parts/|parts/index/|parts/queries/|)zarr\.json|{video}|(scale|offset)/c/0/0)"
        r"|parts/(index|queries)/[^/]+/(zarr\.json|\w+/(zarr\.json|c(/\d+)+))"
    )
    assert [file for file in files if not legal.fullmatch(file)] == []
    for name in ("videos", "parts", "parts/index", "parts/queries"):
        assert json.loads((path / name / "zarr.json").read_bytes())["attributes"] == {}


@pytest.mark.parametrize("kind", ["index", "queries"])
def test_a_part_repeats_what_the_store_is_made_with(path: Path, kind: str) -> None:
    found = part(path, kind).attrs["made_with"]
    repeated = {name: header(path)[name] for name in ("identity", "embedding")}
    assert found == {**repeated, "digest": sha256(canonical_json(repeated))}


def test_nodes_are_named_by_the_rule(path: Path) -> None:
    found = {each.name for each in (path / "videos").iterdir() if each.is_dir()}
    assert found == set(NODES.values())
    for video_id in NODES:
        assert node(path, video_id).attrs["video_id"] == video_id


@pytest.mark.parametrize("video_id", TOKENS)
def test_a_video_read_with_plain_zarr(path: Path, video_id: str) -> None:
    group = node(path, video_id)
    values = group["tokens"][...]
    assert group["tokens"].metadata.dimension_names == ("layer", "frame", "token", "channel")
    pieces = [f"{dtype_of(path)} {list(values.shape)}\n".encode(), values.tobytes()]
    exact = TOKENS[video_id]
    if dtype_of(path) == "float16":
        np.testing.assert_array_equal(values, exact)
        assert set(group) == {"tokens", "embedding"}
    else:
        scale, offset = group["scale"][...], group["offset"][...]
        pieces += [scale.astype("<f4").tobytes(), offset.astype("<f4").tobytes()]
        low, high = exact.min((1, 2)).astype(np.float64), exact.max((1, 2)).astype(np.float64)
        np.testing.assert_allclose(scale, (high - low) / 255, rtol=1e-6)
        np.testing.assert_allclose(offset, low + 128 * scale, rtol=1e-5, atol=1e-6)
        decoded = values.astype(np.float32) * scale[:, None, None] + offset[:, None, None]
        assert (np.abs(decoded - exact) <= 0.51 * scale[:, None, None] + 1e-6).all()
        errors = np.linalg.norm(decoded - exact.astype(np.float64), axis=-1)
        relative = errors / np.linalg.norm(exact.astype(np.float64), axis=-1)
        recorded = group.attrs["quantization_error"]
        np.testing.assert_allclose(recorded["relative_l2_mean"], relative.mean((1, 2)), rtol=1e-5)
        np.testing.assert_allclose(recorded["relative_l2_max"], relative.max((1, 2)), rtol=1e-5)
    attributes = group.attrs.asdict()
    assert attributes["digest"] == sha256(*pieces)
    rest = canonical_json(without(attributes, "attributes_digest"))
    assert attributes["attributes_digest"] == sha256(rest)
    document = DOCUMENT.read_text(encoding="utf-8")
    for name in attributes:
        assert f"`{name}`" in document, name
    assert attributes["num_frames"] == LENGTHS[video_id]
    assert attributes["source"].keys() == {"name", "bytes", "sha256", "licence"}


@pytest.mark.parametrize("video_id", ["dog", "-x y"])
def test_embeddings_read_with_plain_zarr_and_as_bytes(path: Path, video_id: str) -> None:
    group = node(path, video_id)
    values = group["embedding"][...]
    np.testing.assert_array_equal(values, EMBEDDINGS[video_id])
    assert group["embedding"].metadata.dimension_names == ("frame", "embedding_channel")
    data = (path / "videos" / NODES[video_id] / "embedding" / "c" / "0" / "0").read_bytes()
    assert data == values.astype("<f2").tobytes()
    text = f"float16 [{LENGTHS[video_id]}, 5]\n".encode()
    assert group.attrs["embedding_digest"] == sha256(text, data)
    assert group.attrs["embedding_from"] == "frames"
    lengths = np.linalg.norm(values.astype(np.float64), axis=1)
    assert np.abs(lengths - 1).max() <= 0.001


@pytest.mark.parametrize(("video_id", "num_shards"), [("dog", 1), ("-x y", 3)])
def test_a_video_read_as_bytes(path: Path, video_id: str, num_shards: int) -> None:
    exact = node(path, video_id)["tokens"][...]
    layers, frames, tokens, width = exact.shape
    shard_frames = -(-frames // num_shards)
    chunk = shard_frames * tokens * width * exact.itemsize
    for shard in range(num_shards):
        file = path / "videos" / NODES[video_id] / "tokens" / "c" / "0" / str(shard) / "0" / "0"
        data = file.read_bytes()
        index = data[-(16 * layers + 4) : -4]
        assert struct.unpack("<I", data[-4:])[0] == google_crc32c.value(index)
        assert len(data) == layers * chunk + len(index) + 4
        pairs = struct.unpack(f"<{2 * layers}Q", index)
        for layer, (start, length) in enumerate(zip(pairs[::2], pairs[1::2], strict=True)):
            assert length == chunk
            values = np.frombuffer(data[start : start + length], exact.dtype.newbyteorder("<"))
            values = values.reshape(shard_frames, tokens, width)
            real = exact[layer, shard * shard_frames : (shard + 1) * shard_frames]
            np.testing.assert_array_equal(values[: len(real)], real)
            assert not values[len(real) :].any()


@pytest.mark.parametrize("kind", ["index", "queries"])
def test_parts_are_what_their_digest_says(path: Path, kind: str) -> None:
    group = part(path, kind)
    document = DOCUMENT.read_text(encoding="utf-8")
    content = columns_of(group)
    assert group.attrs["digest"] == sha256(*(column_bytes(*item) for item in content.items()))
    for name, values in content.items():
        assert f"`{name.replace('_offsets', '')}`" in document, name
        if name.endswith("_offsets"):
            assert values[0] == 0
            assert values[-1] == len(content[name.removesuffix("_offsets")])


@pytest.mark.parametrize("kind", ["index", "queries"])
def test_a_part_repeats_the_metadata_of_its_arrays(path: Path, kind: str) -> None:
    group = part(path, kind)
    document = DOCUMENT.read_text(encoding="utf-8")
    assert set(group) == {"texts", "numbers"} or kind == "queries"
    folder = path / str(group.path)
    consolidated = json.loads((folder / "zarr.json").read_bytes())["consolidated_metadata"]
    assert (consolidated["kind"], consolidated["must_understand"]) == ("inline", False)
    assert set(consolidated["metadata"]) == set(group)
    for name, metadata in consolidated["metadata"].items():
        assert json.loads((folder / name / "zarr.json").read_bytes()) == metadata
        assert group[name].compressors == ()
        assert group[name].chunks[1:] == group[name].shape[1:]
        dimensions = ", ".join(group[name].metadata.dimension_names)
        assert re.search(rf"\| `{name}` \| \w+ \| \[{dimensions}\] \|", document), name


def test_the_index_repeats_the_videos(path: Path) -> None:
    group = part(path, "index")
    content = {name: values.tolist() for name, values in columns_of(group).items()}
    for row, video_id in enumerate(content["video_id"]):
        attributes = node(path, video_id).attrs.asdict()
        source = attributes["source"]
        for name in ("num_frames", "duration_seconds", "frame_rate_fps", "decoder", "digest"):
            assert content[name][row] == attributes[name]
        assert content["source_name"][row] == source["name"]
        assert content["source_bytes"][row] == source["bytes"]
        assert content["source_sha256"][row] == source["sha256"]


def test_queries_are_what_their_digests_say(path: Path) -> None:
    group = part(path, "queries")
    content = columns_of(group)
    assert content["query_id"].tolist() == ["q1", "q2"]

    def ragged(name: str, row: int) -> Any:
        start, stop = content[f"{name}_offsets"][row : row + 2]
        return content[name][start:stop]

    for row, (given, features) in enumerate(QUERIES):
        np.testing.assert_array_equal(content["embedding"][row], features.embedding)
        np.testing.assert_array_equal(ragged("tokens", row).swapaxes(0, 1), features.tokens)
        np.testing.assert_array_equal(ragged("moments", row), given.moments)
        saliency = ragged("saliency", row).reshape(-1, content["saliency_annotators"][row])
        assert given.saliency is not None
        np.testing.assert_array_equal(saliency, given.saliency.scores)
        texts = ("query_id", "video_id", "text", "split", "domain")
        scale = ("saliency_clip_seconds", "saliency_lowest", "saliency_highest")
        columns_of_row = {
            "text": np.array([content[name][row] for name in texts], dtype=object),
            "duration": content["duration_seconds"][row : row + 1],
            "moments": ragged("moments", row),
            "tokens": ragged("tokens", row).swapaxes(0, 1).copy(),
            "saliency": saliency,
            "scale": np.array([content[name][row] for name in scale]),
        }
        expected = sha256(*(column_bytes(*item) for item in columns_of_row.items()))
        assert content["digest"][row] == expected


def test_a_part_names_those_it_replaces(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zarr"
    merge_stores([path], copy)
    (before,) = header(copy)["parts"]["queries"]
    change_queries(copy, [query("q2", "-x y", text="other words", seed=4)])
    parts = {
        each.name: json.loads((each / "zarr.json").read_bytes())["attributes"]
        for each in (copy / "parts" / "queries").iterdir()
        if each.is_dir()
    }
    (after,) = set(parts) - {before}
    assert after > before
    assert parts[after]["replaces"] == [before]
    assert parts[before].keys() == {"digest", "made_with", *PACKED}
    assert header(copy)["parts"]["queries"] == [before, after]
    texts = columns_of(zarr.open_group(copy, mode="r")[f"parts/queries/{after}"])["text"]
    assert sorted(texts.tolist()) == ["a dog runs", "other words"]
    assert sorted(FeatureStore.open(copy).queries["query"]) == ["a dog runs", "other words"]


def test_a_zip_is_a_store(path: Path, tmp_path: Path) -> None:
    (archive,) = pack_store(path, tmp_path / "feats.zip").archives
    inside: Any = zarr.open_group(ZipStore(archive, mode="r"), mode="r")
    np.testing.assert_array_equal(
        inside["videos/dog/tokens"][...], node(path, "dog")["tokens"][...]
    )
