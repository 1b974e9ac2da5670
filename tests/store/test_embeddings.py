"""Embeddings beside the tokens: written with them, read with them or alone, checked both times."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from features import pack, random_embeddings, random_tokens, small_query, small_spec, write_video

from r2t.store import EmbeddingSpec, FeatureStore, QueryFeatures, VideoFeatures
from r2t.store.errors import (
    ConfigError,
    CorruptFeatureError,
    FeatureNotFoundError,
    SpecMismatchError,
    StoreError,
)
from r2t.store.format import layout

LENGTHS = {"dog": 5, "-x y": 301}
TOKENS = {video_id: random_tokens(length) for video_id, length in LENGTHS.items()}
EMBEDDINGS = {video_id: random_embeddings(length) for video_id, length in LENGTHS.items()}


def make(path: Path, dtype: Any = "float16") -> FeatureStore:
    store = FeatureStore.create(path, small_spec(dtype=dtype), embedding=EmbeddingSpec(5))
    with store.writer() as writer:
        for video_id, tokens in TOKENS.items():
            write_video(writer, video_id, tokens, 64, EMBEDDINGS[video_id])
    return store


@pytest.fixture(scope="module", params=["float16", "int8"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make(tmp_path_factory.mktemp("embeddings") / "feats.zarr", request.param)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(make(tmp_path_factory.mktemp("original") / "feats.zarr").location)


@pytest.fixture
def damaged(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "feats.zarr")
    return tmp_path / "feats.zarr" / "videos" / "dog"


def test_they_are_read_with_the_tokens_and_alone(store: FeatureStore, tmp_path: Path) -> None:
    zipped = FeatureStore.open(pack(Path(store.location), tmp_path / "feats.zip"))
    for opened in (FeatureStore.open(store.location), zipped):
        assert opened.embedding == EmbeddingSpec(5, "clip-projection-unit")
        for video_id, exact in EMBEDDINGS.items():
            np.testing.assert_array_equal(opened.read_embedding(video_id), exact)
            whole = opened.read_video(video_id)
            np.testing.assert_array_equal(whole.embedding, exact)
            assert whole.embedding_from == "frames"
        some = opened.read_video("-x y", layers=slice(1, 2), frames=slice(140, 160))
        np.testing.assert_array_equal(some.embedding, EMBEDDINGS["-x y"][140:160])


def test_long_videos_have_them_in_several_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "MAX_EMBEDDING_ROWS", 100)
    store = make(tmp_path / "feats.zarr")
    chunks = Path(store.location, "videos", "-x%20y", "embedding", "c")
    assert sorted(each.name for each in chunks.iterdir()) == ["0", "1", "2", "3"]
    np.testing.assert_array_equal(store.read_embedding("-x y"), EMBEDDINGS["-x y"])
    some = store.read_video("-x y", frames=slice(70, 240)).embedding
    np.testing.assert_array_equal(some, EMBEDDINGS["-x y"][70:240])


def test_the_identity_and_the_digest_of_a_video_do_not_know_of_them(
    store: FeatureStore, tmp_path: Path
) -> None:
    bare = FeatureStore.create(tmp_path / "bare.zarr", store.spec)
    with bare.writer() as writer:
        write_video(writer, "dog", TOKENS["dog"])
    assert bare.spec == store.spec
    assert bare.video_row("dog").digest == store.video_row("dog").digest
    assert bare.read_video("dog").embedding is None
    with pytest.raises(FeatureNotFoundError, match=r"no embeddings.*r2t store upgrade"):
        bare.read_embedding("dog")


def with_nan(values: Any) -> Any:
    return np.where(np.arange(5) == 3, np.float16(np.nan), values)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (None, "embedding of each frame"),
        (EMBEDDINGS["dog"][1:], r"float16\[4, 5\], expected float16\[5, 5\]"),
        (EMBEDDINGS["dog"][:, :4], r"expected float16\[5, 5\]"),
        (EMBEDDINGS["dog"].astype(np.float32), "float32"),
        (with_nan(EMBEDDINGS["dog"]), "length 1"),
        (1.01 * EMBEDDINGS["dog"], "length 1, these have 1.0"),
        (0 * EMBEDDINGS["dog"], "length 1, these have 0"),
    ],
    ids=["none", "too few", "too narrow", "other dtype", "NaN", "too long", "zeros"],
)
def test_only_embeddings_of_these_frames_and_of_unit_length_are_written(
    tmp_path: Path, changed: Any, message: str
) -> None:
    store = FeatureStore.create(tmp_path / "a.zarr", small_spec(), embedding=EmbeddingSpec(5))
    with (
        store.writer() as writer,
        pytest.raises(ConfigError, match=message),
        writer.video("dog", num_frames=5, duration_seconds=10, frame_rate_fps=0.5) as video,
    ):
        video.append(TOKENS["dog"], changed)
    assert not store.has_video("dog")


def test_a_store_without_takes_none(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "feats.zarr", small_spec())
    annotation, features = small_query("q1")
    features = replace(features, embedding=random_embeddings(1)[0])
    with store.writer() as writer:
        with pytest.raises(ConfigError, match="no embeddings, so give none"):
            write_video(writer, "dog", TOKENS["dog"], embedding=EMBEDDINGS["dog"])
        with pytest.raises(ConfigError, match="no embeddings, one of width 5 was given"):
            writer.add_queries([annotation], [features])


def test_a_store_with_embeddings_wants_those_of_its_queries(tmp_path: Path) -> None:
    store = make(tmp_path / "feats.zarr")
    annotation, features = small_query("q1")
    wrong = replace(features, embedding=random_embeddings(1, 4)[0])
    with store.writer() as writer:
        with pytest.raises(ConfigError, match="embeddings of width 5, none was given"):
            writer.add_queries([annotation], [features])
        with pytest.raises(ConfigError, match="width 5, one of width 4 was given"):
            writer.add_queries([annotation], [wrong])


def test_a_store_stays_with_or_without_them(tmp_path: Path) -> None:
    path = tmp_path / "feats.zarr"
    FeatureStore.create(path, small_spec(), embedding=EmbeddingSpec(5))
    assert FeatureStore.create(path, small_spec()).embedding == EmbeddingSpec(5)
    with pytest.raises(SpecMismatchError, match=r"width=5.*width=6"):
        FeatureStore.create(path, small_spec(), embedding=EmbeddingSpec(6))
    bare = tmp_path / "bare.zarr"
    FeatureStore.create(bare, small_spec())
    assert FeatureStore.create(bare, small_spec(), embedding=EmbeddingSpec(5)).embedding is None


@pytest.mark.parametrize(
    "change",
    [
        {"embedding": random_embeddings(4)},
        {"embedding": random_embeddings(3)[0]},
        {"embedding": np.float16(1)},
        {"embedding": random_embeddings(3) * np.float16(2)},
        {"embedding_from": ""},
        {"embedding_from": "somewhere"},
        {"embedding": None},
    ],
)
def test_features_hold_embeddings_of_their_frames_alone(change: dict[str, Any]) -> None:
    values = {"embedding": random_embeddings(3), "embedding_from": "tokens"}
    VideoFeatures("dog", random_tokens(3), 6.0, 0.5, **values)
    with pytest.raises(ConfigError):
        VideoFeatures("dog", random_tokens(3), 6.0, 0.5, **{**values, **change})


def test_a_query_has_one_embedding() -> None:
    tokens = small_query("q1")[1].tokens
    QueryFeatures("q1", tokens, random_embeddings(1)[0])
    for wrong in (random_embeddings(1), random_embeddings(1)[0] / 2, np.float16(1)):
        with pytest.raises(ConfigError):
            QueryFeatures("q1", tokens, wrong)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("width", "rule"), [(0, "clip-projection-unit"), (True, ""), (5, "mine")])
def test_impossible_kinds_of_embedding_are_refused(width: int, rule: str) -> None:
    with pytest.raises(ConfigError, match="embedding"):
        EmbeddingSpec(width, rule)


def reseal(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a video's attributes as its owner could: with the digest that they then have."""
    from r2t.store.format import seal_attributes

    metadata = json.loads(file.read_bytes())
    change(metadata["attributes"])
    metadata["attributes"] = seal_attributes(metadata["attributes"], 2)
    file.write_text(json.dumps(metadata))


def replace_metadata(node: Path, **changes: Any) -> None:
    file = node / "embedding" / "zarr.json"
    file.write_text(json.dumps({**json.loads(file.read_bytes()), **changes}))


def overwrite(node: Path, values: Any) -> None:
    (node / "embedding" / "c" / "0" / "0").write_bytes(values.tobytes())


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no metadata": (lambda node: (node / "embedding/zarr.json").unlink(), "zarr.json is missing"),
    "no chunk": (lambda node: (node / "embedding/c/0/0").unlink(), "0/0 is missing"),
    "short chunk": (lambda node: overwrite(node, EMBEDDINGS["dog"][:4]), "holds 40 bytes"),
    "NaN": (lambda node: overwrite(node, with_nan(EMBEDDINGS["dog"])), "length 1"),
    "zeros": (lambda node: overwrite(node, 0 * EMBEDDINGS["dog"]), "length 1, these have 0"),
    "other shape": (lambda node: replace_metadata(node, shape=[4, 5]), "shape, dtype"),
    "other type": (lambda node: replace_metadata(node, data_type="int16"), "shape, dtype"),
    "huge": (lambda node: replace_metadata(node, shape=[2**60, 5]), "describes no array"),
    "no digest": (
        lambda node: reseal(node / "zarr.json", lambda found: found.pop("embedding_digest")),
        "name no embeddings",
    ),
    "no origin": (
        lambda node: reseal(node / "zarr.json", lambda found: found.pop("embedding_from")),
        "name no embeddings",
    ),
}


@pytest.mark.parametrize(("harm", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_embeddings_are_not_read(
    damaged: Path, harm: Callable[[Path], object], message: str
) -> None:
    harm(damaged)
    store = FeatureStore.open(damaged.parents[1])
    for read in (store.read_embedding, store.read_video):
        with pytest.raises(CorruptFeatureError, match=message):
            read("dog")
    np.testing.assert_array_equal(store.read_embedding("-x y"), EMBEDDINGS["-x y"])


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.update(duration_seconds=11.0),
        lambda found: found.update(note="mine"),
        lambda found: found["source"].update(licence=None),
        lambda found: found.pop("attributes_digest"),
        lambda found: found.update(attributes_digest=3),
        lambda found: found.update(note=10**30),
        lambda found: found.update(note="\ud800"),
    ],
    ids=["changed", "added", "changed within", "unsealed", "no text", "huge integer", "no Unicode"],
)
def test_attributes_that_are_not_what_their_digest_says_are_not_read(
    damaged: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    file = damaged / "zarr.json"
    metadata = json.loads(file.read_bytes())
    change(metadata["attributes"])
    file.write_text(json.dumps(metadata))
    store = FeatureStore.open(damaged.parents[1])
    for read in (store.read_video, store.video_row, store.open_video, store.read_embedding):
        with pytest.raises(CorruptFeatureError, match="attributes_digest"):
            read("dog")


def rewrite_header(path: Path, change: Callable[[dict[str, Any]], object], *, seal: bool) -> None:
    from r2t.store.format.canonical_json import sealed

    file = path / "zarr.json"
    metadata = json.loads(file.read_bytes())
    header = metadata["attributes"]["r2t"]
    change(header)
    if seal:
        metadata["attributes"]["r2t"] = sealed(header, "header_digest")
    file.write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    ("change", "seal", "message"),
    [
        (lambda found: found["provenance"].update(by="me"), False, "header_digest"),
        (lambda found: found.update(embedding=None), False, "header_digest"),
        (lambda found: found.pop("header_digest"), False, "lacks header_digest"),
        (lambda found: found.pop("parts"), True, "lacks parts"),
        (lambda found: found.update(parts={"index": []}), True, "parts = "),
        (lambda found: found["parts"].update(index=["../x"]), True, "parts = "),
        (lambda found: found.update(parts=3), True, "parts = "),
        (lambda found: found.update(card=[1]), True, "card = "),
        (lambda found: found.update(shelf=1), True, "shelf.*newer r2t"),
        (lambda found: found["identity"].update(colour=1), True, "colour.*newer r2t"),
        (lambda found: found["embedding"].update(rule="map"), True, "newer r2t"),
        (lambda found: found["embedding"].update(bits=8), True, "newer r2t"),
        (lambda found: found.update(embedding=[5]), True, "newer r2t"),
        (lambda found: found.update(format_version=2.0), True, "format version 2.0"),
        (lambda found: found.update(format_version=True), True, "format version True"),
    ],
    ids=map(str, range(15)),
)
def test_a_damaged_or_newer_header_is_refused(
    damaged: Path, change: Callable[[dict[str, Any]], object], seal: bool, message: str
) -> None:
    path = damaged.parents[1]
    rewrite_header(path, change, seal=seal)
    with pytest.raises(StoreError, match=message):
        FeatureStore.open(path)


def test_a_header_takes_plain_json_alone(tmp_path: Path) -> None:
    for facts in ({"by": float("nan")}, {"by": 10**30}, {"by": {1, 2}}, {"by": "\ud800"}):
        with pytest.raises(ConfigError, match="plain JSON"):
            FeatureStore.create(tmp_path / "feats.zarr", small_spec(), facts)
    assert not (tmp_path / "feats.zarr").exists()
