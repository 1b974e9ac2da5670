"""Merge, subset, pack and unpack: what is carried over is proved, and nothing else is."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from damaged_stores import FAULTS, LONG, TOKENS, flip, make_store, shard
from features import columns, random_tokens, small_query, small_spec, write_video
from typer.testing import CliRunner

from r2t.cli.commands.store.store import app
from r2t.store import FeatureStore
from r2t.store.change.licence import licences, set_licence
from r2t.store.change.merge import StoreSelection, merge_stores
from r2t.store.change.pack import pack_store
from r2t.store.change.subset import subset_store
from r2t.store.check.verify import verify_store
from r2t.store.errors import ConfigError, FeatureNotFoundError, SpecMismatchError, StoreError


@pytest.fixture
def halves(tmp_path: Path) -> list[Path]:
    """Two stores that share one video and one query, and have one of their own each."""
    paths = [tmp_path / "a.zarr", tmp_path / "b.zarr"]
    make_store(paths[0])
    with FeatureStore.create(paths[1], small_spec()).writer() as writer:
        write_video(writer, "dog", TOKENS["dog"])
        write_video(writer, "../cat", random_tokens(7, seed=5))
        writer.add_queries(*columns(small_query("q1"), small_query("q3", "../cat", seed=3)))
    return paths


def run(*arguments: object) -> str:
    answer = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return f"{answer.exit_code} {answer.stdout}{answer.stderr}"


def equal_bytes(one: FeatureStore, other: FeatureStore) -> bool:
    return one.content_digest() == other.content_digest()


@pytest.mark.parametrize("link", [True, False])
def test_halves_become_a_whole(halves: list[Path], tmp_path: Path, link: bool) -> None:
    into = tmp_path / "sub" / "c.zarr"
    report = merge_stores(halves, into, link=link)
    assert (report.num_videos, report.num_linked, report.num_queries) == (3, 3 if link else 0, 3)
    assert verify_store(into).faults == ()
    store = FeatureStore.open(into)
    assert set(store.videos["video_id"]) == {"dog", LONG, "../cat"}
    np.testing.assert_array_equal(store.read_video(LONG).tokens, TOKENS[LONG])
    assert shard(into).samefile(shard(halves[0])) == link
    assert not (into / "videos" / "dog" / "zarr.json").samefile(
        halves[0] / "videos" / "dog" / "zarr.json"
    )
    before = store.content_digest()
    again = merge_stores(reversed(halves), into)  # pyright: ignore[reportArgumentType]
    assert (again.num_videos, again.num_present, again.num_queries) == (0, 3, 0)
    assert FeatureStore.open(into).content_digest() == before
    assert not into.with_name("c.zarr.partial").exists()


def test_conflicts_are_refused_before_anything_is_written(
    halves: list[Path], tmp_path: Path
) -> None:
    into = tmp_path / "c.zarr"
    with FeatureStore.open(halves[1]).writer() as writer:
        write_video(writer, LONG, random_tokens(3, seed=8))
        writer.add_queries(*columns(small_query("q2", LONG, text="another")))
    with pytest.raises(StoreError, match=r"video '-x y' in .*; query 'q2' in .*Nothing was"):
        merge_stores(halves, into)
    assert not into.exists()
    other = FeatureStore.create(tmp_path / "int8.zarr", small_spec(dtype="int8"))
    with pytest.raises(SpecMismatchError, match="dtype"):
        merge_stores([halves[0], other.location], into)
    assert not into.exists()
    with pytest.raises(SpecMismatchError, match="dtype"):
        merge_stores(halves[:1], other.location)


@pytest.mark.parametrize("order", [1, -1])
def test_of_ids_that_mean_two_things_the_first_may_be_kept(
    halves: list[Path], tmp_path: Path, order: int
) -> None:
    into = tmp_path / "c.zarr"
    with FeatureStore.open(halves[1]).writer() as writer:
        write_video(writer, LONG, random_tokens(3, seed=8))
        writer.add_queries(*columns(small_query("q2", LONG, text="another")))
    first, second = halves[::order]
    answer = run("merge", first, second, "--into", into, "--keep-first", "--json")
    assert answer.startswith("0 ")
    assert '"num_unequal": 2' in answer
    assert verify_store(into).faults == ()
    merged, kept = FeatureStore.open(into), FeatureStore.open(first)
    np.testing.assert_array_equal(merged.read_video(LONG).tokens, kept.read_video(LONG).tokens)
    assert len(merged.queries) == len(merged.videos) == 3
    assert merged.query_digests()["q2"] == kept.query_digests()["q2"]
    before = merged.content_digest()
    again = run("merge", second, "--into", into, "--keep-first")  # what is there goes first
    assert again.startswith("0 ")
    assert "of 2 ids that mean two things, the first was kept" in again
    assert FeatureStore.open(into).content_digest() == before


@pytest.mark.parametrize(
    "name", ["flipped byte of tokens", "truncated chunk", "link out of the store"]
)
def test_damaged_videos_are_left_out_and_named(
    halves: list[Path], tmp_path: Path, name: str
) -> None:
    FAULTS[name][0](halves[0])
    into = tmp_path / "c.zarr"
    answer = run("merge", *halves, "--into", into, "--json")
    assert answer.startswith("1 ")
    assert f"failed: {LONG}" in answer
    assert verify_store(into).faults == ()
    assert set(FeatureStore.open(into).videos["video_id"]) == {"dog", "../cat"}


def test_a_damaged_query_is_left_out_and_named(halves: list[Path], tmp_path: Path) -> None:
    FAULTS["another sentence"][0](halves[0])
    report = merge_stores(halves[:1], tmp_path / "c.zarr")
    assert list(report.failures) == ["query 'q1', 'a cat runs' of 'dog'"]
    assert FeatureStore.open(tmp_path / "c.zarr").queries["query_id"].tolist() == ["q2"]


def test_quick_trusts_the_bytes_it_links(halves: list[Path], tmp_path: Path) -> None:
    flip(shard(halves[0]), 100)
    assert merge_stores(halves, tmp_path / "c.zarr", quick=True).failures == {}
    assert [fault.kind for fault in verify_store(tmp_path / "c.zarr").faults] == ["video"]


@pytest.mark.parametrize("max_bytes", [None, 1000])  # less than two of its videos take
def test_a_packed_store_is_read_in_place_and_unpacks_to_the_same(
    halves: list[Path], tmp_path: Path, max_bytes: int | None
) -> None:
    whole = tmp_path / "whole.zarr"
    merge_stores(halves, whole)
    report = pack_store(whole, tmp_path / "out" / "feats.zip", max_bytes=max_bytes)
    names = ["feats.zip"] if max_bytes is None else [f"feats-{n:03}.zip" for n in (1, 2, 3)]
    assert [archive.name for archive in report.archives] == names
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    for archive in report.archives:
        with zipfile.ZipFile(archive) as content:
            assert {each.compress_type for each in content.infolist()} == {zipfile.ZIP_STORED}
        found = verify_store(f"zip::{archive}")
        assert found.faults == ()
        assert found.num_videos == len(FeatureStore.open(f"zip::{archive}").videos)
    unpacked = tmp_path / "unpacked.zarr"
    assert run("unpack", *report.archives, "--into", unpacked).startswith("0 ")
    assert equal_bytes(FeatureStore.open(unpacked), FeatureStore.open(whole))
    assert verify_store(unpacked).faults == ()
    with pytest.raises(ConfigError, match="there already"):
        pack_store(whole, tmp_path / "out" / "feats.zip", max_bytes=max_bytes)


def test_what_else_an_archive_holds_stays_in_it(halves: list[Path], tmp_path: Path) -> None:
    (archive,) = pack_store(halves[0], tmp_path / "feats.zip").archives
    with zipfile.ZipFile(archive, "a") as content:
        for name in ("../slip", "videos/dog/../../../slip", "/tmp/slip", "videos/%2E%2E/slip"):
            content.writestr(name, "slipped")
    before = {path for path in tmp_path.rglob("*") if "c.zarr" not in path.parts}
    assert run("unpack", archive, "--into", tmp_path / "c.zarr").startswith("0 ")
    assert verify_store(tmp_path / "c.zarr").faults == ()
    assert {path for path in tmp_path.rglob("*") if "c.zarr" not in path.parts} == before
    assert not list(tmp_path.rglob("slip"))


def test_a_damaged_archive_is_noticed_on_unpacking(halves: list[Path], tmp_path: Path) -> None:
    (archive,) = pack_store(halves[0], tmp_path / "feats.zip").archives
    data = archive.read_bytes()
    place = data.index(TOKENS["dog"].tobytes()[:48])
    archive.write_bytes(data[:place] + b"\x01" + data[place + 1 :])
    answer = run("unpack", archive, "--into", tmp_path / "c.zarr")
    assert answer.startswith("1 ")
    assert "failed: dog" in answer
    assert FeatureStore.open(tmp_path / "c.zarr").videos["video_id"].tolist() == [LONG]


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_subset_is_a_slice(tmp_path: Path, dtype: str) -> None:
    whole = make_store(tmp_path / "a.zarr", dtype=dtype)
    into = tmp_path / "small.zarr"
    assert (
        run("subset", tmp_path / "a.zarr", "--into", into, "--layers", "10,12", "--cls-only")[:2]
        == "0 "
    )
    small = FeatureStore.open(into)
    assert small.spec.vision_layers == small.spec.text_layers == (10, 12)
    assert small.spec.num_tokens == 1
    for video_id in TOKENS:
        expected, found = whole.read_video(video_id), small.read_video(video_id)
        np.testing.assert_array_equal(found.tokens, expected.tokens[[0, 2]][:, :, :1])
        np.testing.assert_array_equal(found.decoded(), expected.decoded()[[0, 2]][:, :, :1])
    np.testing.assert_array_equal(
        small.read_query("q2").tokens, whole.read_query("q2").tokens[[0, 2]]
    )
    assert verify_store(into).faults == ()


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        ("https://me:word@h.example/a.zip?X-Amz-Signature=1#x", "https://h.example/a.zip"),
        ("simplecache::https://me:word@[::1]:8/a?b", "simplecache::https://[::1]:8/a"),
        ("s3://bucket/what?.zarr", "s3://bucket/what?.zarr"),
        ("abfs://box@mine.example/a", "abfs://box@mine.example/a"),
        ("rows#1?/a.zarr", "rows#1?/a.zarr"),
    ],
)
def test_no_credentials_of_a_url_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, recorded: str
) -> None:
    with FeatureStore.create(tmp_path / "a.zarr", small_spec()).writer() as writer:
        write_video(writer, "dog", TOKENS["dog"])
    found = StoreSelection.open(tmp_path / "a.zarr")
    monkeypatch.setattr(StoreSelection, "open", lambda *_: found)
    merge_stores([given], tmp_path / "merged.zarr")
    subset_store(given, tmp_path / "subset.zarr")
    assert FeatureStore.open(tmp_path / "merged.zarr").provenance["merged"] == [recorded]
    assert FeatureStore.open(tmp_path / "subset.zarr").provenance["subset_of"] == recorded


def test_a_subset_of_videos_shares_their_files(tmp_path: Path) -> None:
    make_store(tmp_path / "a.zarr")
    into = tmp_path / "b.zarr"
    report = subset_store(tmp_path / "a.zarr", into, video_ids=[LONG], split="val")
    assert (report.num_videos, report.num_linked, report.num_queries) == (1, 1, 1)
    assert shard(into).samefile(shard(tmp_path / "a.zarr"))
    assert FeatureStore.open(into).queries["query_id"].tolist() == ["q2"]
    with pytest.raises(FeatureNotFoundError, match="no videos 'cow'"):
        subset_store(tmp_path / "a.zarr", into, video_ids=["cow"])
    with pytest.raises(FeatureNotFoundError, match="split 'train'; its splits are: val"):
        subset_store(tmp_path / "a.zarr", into, split="train")
    assert run("subset", tmp_path / "a.zarr", "--into", into, "--layers", "4")[:2] == "2 "
    assert run("subset", tmp_path / "a.zarr", "--into", into, "--layers", "=9")[:2] == "2 "


def test_a_damaged_video_does_not_get_a_new_digest(tmp_path: Path) -> None:
    make_store(tmp_path / "a.zarr")
    flip(shard(tmp_path / "a.zarr"), 100)
    report = subset_store(tmp_path / "a.zarr", tmp_path / "b.zarr", cls_only=True)
    assert list(report.failures) == [LONG]
    assert FeatureStore.open(tmp_path / "b.zarr").videos["video_id"].tolist() == ["dog"]


def test_a_licence_is_recorded_in_one_store_alone(halves: list[Path], tmp_path: Path) -> None:
    into = tmp_path / "c.zarr"
    merge_stores(halves, into)
    assert set_licence(into, "CC BY 4.0", ["dog"]) == 1
    assert licences(into) == {"dog": "CC BY 4.0", LONG: "CC0", "../cat": "CC0"}
    assert licences(halves[0])["dog"] == "CC0"
    assert verify_store(into).faults == ()
    with pytest.raises(FeatureNotFoundError, match="'cow'; nothing was changed"):
        set_licence(into, "MIT", ["dog", "cow"])
    assert sorted(run("licence", into)[2:].split("\n")) == ["", "1\tCC BY 4.0", "2\tCC0"]


def test_the_error_of_eight_bits_is_recorded_when_a_video_is_written(tmp_path: Path) -> None:
    store = make_store(tmp_path / "int8.zarr", dtype="int8")
    answer = CliRunner().invoke(app, ["info", store.location, "--stats", "--json"])
    found = json.loads(answer.stdout)
    errors: list[np.ndarray] = []
    for video_id, tokens in TOKENS.items():
        exact = tokens.astype(np.float64)
        error = np.linalg.norm(store.read_video(video_id).decoded() - exact, axis=-1)
        errors.append(error / np.linalg.norm(exact, axis=-1))
    together = np.concatenate(errors, axis=1)
    np.testing.assert_allclose(found["relative_l2_mean"], together.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found["relative_l2_max"], together.max((1, 2)), rtol=1e-5)
    assert 0 < max(found["cosine_distance_mean"]) < 1e-4
    assert (found["num_videos"], found["num_videos_without"]) == (2, 0)
    subset_store(store.location, tmp_path / "cls.zarr", cls_only=True)
    said = run("info", tmp_path / "cls.zarr", "--stats")
    assert "; without a recorded error: 2" in said
    make_store(tmp_path / "float16.zarr")
    assert run("info", tmp_path / "float16.zarr", "--stats").startswith("2 error:")


def test_sources_are_left_as_they_were(halves: list[Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(halves[0], tmp_path / "copy.zarr"))
    merge_stores(halves, tmp_path / "c.zarr")
    shutil.rmtree(tmp_path / "c.zarr")
    assert equal_bytes(FeatureStore.open(copy), FeatureStore.open(halves[0]))
    assert verify_store(halves[0]).faults == ()
