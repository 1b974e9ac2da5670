"""A set of zips: it opens as one store, moves what is asked for, and refuses what does not fit."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from features import columns, random_tokens, small_query, small_spec, write_video
from servers import NGINX, nginx

from r2t.store import FeatureStore
from r2t.store.change.merge import merge_stores
from r2t.store.change.pack_set import pack_zip_set, zip_record
from r2t.store.change.unpack import unpack_set
from r2t.store.check.verify import verify_store
from r2t.store.errors import ConfigError, CorruptFeatureError, StoreError
from r2t.store.format.canonical_json import sealed
from r2t.store.format.zip_manifest import ZipManifest
from r2t.store.sources.zipped import ZippedFolder

TOKENS = {
    name: random_tokens(5, seed=seed) for seed, name in enumerate(("a dog", "cat", "..", "é"))
}
TWO_VIDEOS = 2 * TOKENS["cat"].nbytes


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose videos and sentences were committed in several goes."""
    path = tmp_path_factory.mktemp("whole") / "feats.zarr"
    store = FeatureStore.create(path, small_spec())
    for number, (video_id, tokens) in enumerate(TOKENS.items()):
        with store.writer() as writer:
            write_video(writer, video_id, tokens)
            writer.add_queries(*columns(small_query(f"q{9 - number}", video_id, seed=number)))
    return path


@pytest.fixture(scope="module")
def made(whole: Path) -> Path:
    out = whole.with_name("zips")
    pack_zip_set(whole, out, max_bytes=TWO_VIDEOS)
    return out


@pytest.fixture
def zips(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "zips"))


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "r2t-zips.json").read_text())


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = manifest_of(folder)
    change(values)
    (folder / "r2t-zips.json").write_text(json.dumps(sealed(values, "manifest_digest")))


def read_all(location: str | Path) -> FeatureStore:
    store = FeatureStore.open(location)
    for video_id, tokens in TOKENS.items():
        np.testing.assert_array_equal(store.read_video(video_id).tokens, tokens)
    return store


def test_a_set_is_the_store_that_it_was_made_from(whole: Path, zips: Path, tmp_path: Path) -> None:
    assert len(list(zips.glob("*.zip"))) == 3
    for location in (zips, zips / "r2t-zips.json"):
        store = read_all(location)
        assert store.content_digest() == FeatureStore.open(whole).content_digest()
        ids = [each.query_id for each in FeatureStore.open(whole).annotations()]
        assert [each.query_id for each in store.annotations()] == ids == ["q9", "q8", "q7", "q6"]
    found = verify_store(zips)
    assert (found.faults, found.num_videos, found.num_queries) == ((), 4, 4)
    assert merge_stores([zips], tmp_path / "back.zarr").failures == {}
    assert verify_store(tmp_path / "back.zarr").faults == ()


def test_the_same_store_gives_the_same_bytes(whole: Path, zips: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(whole, tmp_path / "moved.zarr")  # with other times of its files
    pack_zip_set(moved, tmp_path / "again", max_bytes=TWO_VIDEOS)
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == {
        path.name: path.read_bytes() for path in zips.iterdir()
    }
    with pytest.raises(ConfigError, match="there already"):
        pack_zip_set(moved, tmp_path / "again")


@pytest.mark.skipif(NGINX is None, reason="needs nginx")
def test_opening_takes_few_requests_and_reading_moves_what_is_asked_for(
    zips: Path, tmp_path: Path
) -> None:
    with nginx(zips, tmp_path / "work", autoindex=False) as server:
        store = FeatureStore.open(f"{server.url}/r2t-zips.json")
        assert server.sent()[0] == 2  # the manifest, the end of the first zip
        whole = FeatureStore.open(server.url)
        assert server.sent()[0] == 3  # and a look for a plain store
        assert len(store.videos) == len(whole.videos) == 4
        store.read_query("q9")
        assert server.sent()[0] == 1
        store.open_video("cat")
        assert server.sent()[0] == 2  # the list of its zip, its attributes
        store.read_video("cat")
        num_requests, num_bytes = server.sent()
        assert num_requests <= 4
        assert num_bytes < 2 * TOKENS["cat"].nbytes + 2048
        read_all(server.url)
        shutil.move(zips / manifest_of(zips)["videos"][1]["name"], tmp_path / "away.zip")
        with pytest.raises(StoreError, match=r"videos-[0-9a-f]{16}\.zip does not exist"):
            read_all(server.url)


def test_a_zip_that_is_missing_cut_or_swapped_is_refused_by_name(zips: Path) -> None:
    first, second = (zips / each["name"] for each in manifest_of(zips)["videos"])
    content = {path: path.read_bytes() for path in (first, second)}
    first.unlink()
    with pytest.raises(StoreError, match=f"{first.name} does not exist"):
        read_all(zips)
    for wrong in (content[second], content[first][:-1], content[first] + b"0", b""):
        first.write_bytes(wrong)
        with pytest.raises(CorruptFeatureError, match=f"{first.name} is another zip"):
            read_all(zips)
    first.unlink()
    first.symlink_to(second)
    with pytest.raises(CorruptFeatureError, match="no plain file"):
        read_all(zips)


def test_bytes_of_a_video_that_were_changed_are_found(zips: Path) -> None:
    path = zips / manifest_of(zips)["videos"][0]["name"]
    content = bytearray(path.read_bytes())
    content[content.index(TOKENS[".."].tobytes()[:48])] ^= 1
    path.write_bytes(content)
    assert [fault.video_id for fault in verify_store(zips).faults] == [".."]


ILLEGAL: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "unknown key": (lambda m: m.update(more=1), "newer r2t"),
    "unknown key of a zip": (lambda m: m["index"].update(more=1), "newer r2t"),
    "later version": (lambda m: m.update(zips_version=2), "newer r2t"),
    "key missing": (lambda m: m.pop("content"), "lacks content"),
    "path": (lambda m: m["videos"][0].update(name="../out.zip"), "not legal"),
    "absolute path": (lambda m: m["videos"][0].update(name="/etc/out.zip"), "not legal"),
    "node that is a path": (lambda m: m["videos"][0].update(nodes=["../cat"]), "not legal"),
    "negative size": (lambda m: m["videos"][0].update(bytes=-1), "no count"),
    "list behind the end": (lambda m: m["videos"][0].update(list_start=10**15), "behind the end"),
    "zip twice": (lambda m: m["videos"].append(m["videos"][0]), "twice"),
    "node twice": (lambda m: m["videos"][0]["nodes"].append(m["videos"][1]["nodes"][0]), "twice"),
    "number for a zip": (lambda m: m["videos"].append(7), "no record"),
    "text for zips": (lambda m: m.update(videos="x"), "no list"),
    "opening of absurd size": (
        lambda m: m["index"].update(bytes=10**15, opening_start=0),
        "another",
    ),
    "opening in the list": (lambda m: m["index"].update(opening_start=10**9), "opening_start"),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_a_manifest_that_is_not_legal_is_refused(zips: Path, name: str) -> None:
    change, error = ILLEGAL[name]
    change_manifest(zips, change)
    with pytest.raises(StoreError, match=error):
        FeatureStore.open(zips)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 10**5, b'{"zips_version": 1}'])
def test_what_is_no_manifest_is_refused(zips: Path, content: bytes) -> None:
    (zips / "r2t-zips.json").write_bytes(content)
    with pytest.raises(CorruptFeatureError, match=r"r2t-zips\.json"):
        FeatureStore.open(zips)


def test_a_changed_manifest_is_refused(zips: Path) -> None:
    values = manifest_of(zips)
    values["videos"][0]["sha256"] = "0" * 64
    (zips / "r2t-zips.json").write_text(json.dumps(values))
    with pytest.raises(CorruptFeatureError, match="manifest_digest"):
        FeatureStore.open(zips)


def test_a_zip_that_claims_what_is_not_its_own_is_refused(zips: Path) -> None:
    values = manifest_of(zips)
    moved = values["videos"][0]["nodes"].pop()
    change_manifest(zips, lambda m: m["videos"][0].update(nodes=values["videos"][0]["nodes"]))
    store = FeatureStore.open(zips)
    with pytest.raises(CorruptFeatureError, match="does not hold exactly"):
        store.read_video("..")
    assert moved not in store


def test_members_that_no_store_has_are_refused(tmp_path: Path) -> None:
    deep, before = tmp_path / "deep.zip", tmp_path / "before.zip"
    for path, names in ((deep, ("zarr.json", "a/" * 8000 + "x")), (before, ("zarr.json",))):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"{}")
    content = bytearray(before.read_bytes())
    content[-6] += 50  # the list of members is said to begin later, so that all lie before the file
    before.write_bytes(content)
    with pytest.raises(StoreError, match=r"deep\.zip: a/a/.* longer name"):
        ZippedFolder(deep)
    with pytest.raises(StoreError, match=r"before\.zip: zarr\.json .* with a wrong size"):
        ZippedFolder(before)


def test_a_video_that_no_zip_holds_is_missed_when_unpacked(zips: Path, tmp_path: Path) -> None:
    change_manifest(zips, lambda m: m["videos"].pop())
    manifest = ZipManifest.from_json((zips / "r2t-zips.json").read_bytes(), "zips")

    def leave(_: object) -> None:
        pass

    into = tmp_path / "back.zarr"
    report = unpack_set(zips, into, manifest, fetch=leave, release=leave, facts={})
    missing = TOKENS.keys() - set(FeatureStore.open(into).videos["video_id"])
    assert dict(report.failures) == dict.fromkeys(missing, "no zip of the set holds it")
    assert missing


def test_an_index_that_claims_a_video_is_refused(made: Path, zips: Path) -> None:
    values = manifest_of(zips)
    path = zips / values["index"]["name"]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("videos/cat/zarr.json", "{}")
    record = {**zip_record(path, path.name).to_dict(), "opening_start": 0}
    change_manifest(zips, lambda m: m.update(index=record))
    with pytest.raises(CorruptFeatureError, match="claims the video 'cat'"):
        FeatureStore.open(zips)
