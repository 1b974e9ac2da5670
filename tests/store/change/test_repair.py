"""Repair leaves a store whole, deletes nothing but leftovers, and lists what must be made again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from damaged_stores import FAULTS, LONG, TOKENS, edit, make_store, part, shard
from features import (
    columns,
    random_tokens,
    small_query,
    small_spec,
    unpack_version_1,
    write_video,
)
from memory_bucket import URL, use_memory
from typer.testing import CliRunner

from r2t.cli.commands.store.store import app
from r2t.store import FeatureStore
from r2t.store.change.licence import licences, set_licence
from r2t.store.change.remove import remove_videos
from r2t.store.change.repair import repair_store
from r2t.store.check.verify import verify_store
from r2t.store.errors import CorruptFeatureError, FeatureNotFoundError, StoreError
from r2t.store.format.manifest import record_parts
from r2t.store.format.part_writer import PartWriter
from r2t.store.format.video_rows import video_columns
from r2t.store.publish.local import LocalPublisher
from r2t.store.work_folders import maintenance


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "feats.zarr"
    make_store(path)
    return path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    """A copy of the whole store, to damage."""
    return Path(shutil.copytree(whole, tmp_path / "feats.zarr"))


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_left_is_whole_and_what_is_lost_is_told(path: Path, name: str) -> None:
    damage, _ = FAULTS[name]
    damage(path)
    before = {file for file in files(path) if not file.startswith("parts/")}
    report = repair_store(path)
    assert report.faults
    assert verify_store(path).faults == ()
    store = FeatureStore.open(path)
    lost = set(TOKENS) - set(store.videos["video_id"])
    assert lost <= set(report.extract_again)
    assert set(report.lost_queries) <= {"q1"}
    if name != "truncated column" and name != "deleted column":
        assert {"q1", "q2"} - set(store.queries["query_id"]) == set(report.lost_queries)
    after = files(path) | (files(aside) if (aside := Path(report.aside)).exists() else set())
    assert before <= after
    assert repair_store(path).faults == ()


def test_what_the_index_recorded_of_a_video_is_taken_back(path: Path) -> None:
    file = path / "videos" / "dog" / "zarr.json"
    before, index = json.loads(file.read_bytes()), part(path, "index")

    def damage(node: dict[str, Any]) -> None:
        node["attributes"].update(duration_seconds=16.0, decoder="pyaw")
        node["attributes"]["source"].update(bytes=3)

    edit(file, damage)
    report = repair_store(path)
    assert [fault.kind for fault in report.faults] == ["attributes"]
    assert (report.set_aside, report.extract_again) == ((), ())
    assert json.loads(file.read_bytes()) == before
    assert part(path, "index") == index
    assert FeatureStore.open(path).read_video("dog").duration_seconds == 10.0


def test_a_later_part_that_was_read_from_damaged_attributes_loses(tmp_path: Path) -> None:
    unpack_version_1(tmp_path)
    path = tmp_path / "float16.zarr"
    expected = FeatureStore.open(path).read_video("dog").duration_seconds
    edit(path / "videos" / "dog" / "zarr.json", longer)
    store = FeatureStore.open(path)
    parts = PartWriter(LocalPublisher(path, tmp_path), store.header)
    parts.commit("index", video_columns([store.video_row("dog")]))
    found = sorted((fault.kind, fault.video_id) for fault in verify_store(path).faults)
    assert found == [("attributes", "dog"), ("stale-index", "dog")]
    repair_store(path)
    assert verify_store(path).faults == ()
    store = FeatureStore.open(path)
    assert store.videos.set_index("video_id")["duration_seconds"]["dog"] == expected
    assert store.read_video("dog").duration_seconds == expected


def longer(node: dict[str, Any]) -> None:
    node["attributes"].update(duration_seconds=16.0)


def test_a_flipped_duration_is_never_made_permanent(path: Path) -> None:
    """Not by a run that indexes the video, nor by a licence, nor by a repair without the index."""
    edit(path / "videos" / "dog" / "zarr.json", longer)
    shutil.copytree(path, path.with_name("unindexed.zarr"))
    store = FeatureStore.open(path)
    for damaged in (
        lambda: store.read_video("dog"),
        lambda: store.video_row("dog"),
        lambda: set_licence(path, "CC0", ["dog"]),
    ):
        with pytest.raises(CorruptFeatureError, match="attributes_digest"):
            damaged()
    (fault,) = verify_store(path).faults
    assert (fault.kind, fault.video_id) == ("attributes", "dog")
    assert repair_store(path).lost_attributes == {}
    assert FeatureStore.open(path).read_video("dog").duration_seconds == 10.0
    path = path.with_name("unindexed.zarr")
    shutil.rmtree(part(path, "index"))
    assert "dog" in repair_store(path).extract_again
    assert not FeatureStore.open(path).has_video("dog")


def test_what_no_index_records_of_a_video_is_given_up_where_nothing_proves_it(path: Path) -> None:
    def relicense(node: dict[str, Any]) -> None:
        node["attributes"]["source"].update(licence="mine")

    edit(path / "videos" / "dog" / "zarr.json", relicense)
    (fault,) = verify_store(path).faults
    assert str(fault).endswith("dog: they are not what their attributes_digest says")
    report = repair_store(path)
    assert report.lost_attributes == {"dog": ("licence",)}
    assert report.extract_again == ()
    assert licences(path) == {"dog": None, LONG: "CC0"}
    assert verify_store(path).faults == ()


def header_of(path: Path) -> dict[str, Any]:
    return json.loads((path / "zarr.json").read_bytes())["attributes"]["r2t"]


def edit_header(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(path / "zarr.json", lambda node: change(node["attributes"]["r2t"]))


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["identity"].update(model="another"),
        lambda header: header["identity"].pop("mean"),
        lambda header: header["identity"].update(num_tokens=4),
        lambda header: header.update(embedding={"width": 7, "rule": "clip-projection-unit"}),
        lambda header: header["parts"].update(index=["gone"]),
        lambda header: header.pop("parts"),
    ],
    ids=map(str, range(6)),
)
def test_a_damaged_header_is_proved_by_the_parts(
    path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    """Its own digest holds again, so nothing of it is lost."""
    before, content = header_of(path), FeatureStore.open(path).content_digest()
    edit_header(path, change)
    damaged = (path / "zarr.json").read_bytes()
    with pytest.raises(StoreError):
        FeatureStore.open(path)
    report = verify_store(path)
    assert [str(fault) for fault in report.faults] == [
        "header: zarr.json: the header is not what its header_digest says; `r2t store repair` "
        "restores it from what the parts repeat"
    ]
    assert report.num_videos == len(TOKENS)
    repaired = repair_store(path)
    assert (repaired.lost_header, repaired.set_aside, repaired.extract_again) == ((), (), ())
    assert header_of(path) == before
    assert Path(repaired.aside, "zarr.json").read_bytes() == damaged
    assert verify_store(path).faults == ()
    assert FeatureStore.open(path).content_digest() == content


def test_what_nothing_proves_of_a_header_is_given_up(path: Path) -> None:
    identity = header_of(path)["identity"]
    edit_header(path, lambda header: header["provenance"].update(by="me"))
    edit_header(path, lambda header: header.update(identity=[], colour=1))
    assert [fault.kind for fault in verify_store(path).faults] == ["header"]
    answer = CliRunner().invoke(app, ["repair", str(path)])
    assert answer.exit_code == 0, answer.output
    told = " ".join(answer.output.split())
    assert "provenance of the header could not be proved and is given up" in told
    assert (header_of(path)["identity"], header_of(path)["provenance"]) == (identity, {})
    assert verify_store(path).faults == ()


@pytest.mark.parametrize("content", [b"\0" * 4096, b'{"zarr_format": 3,', b"{}"])
def test_a_root_that_cannot_be_read_is_restored(path: Path, content: bytes) -> None:
    before = header_of(path)
    (path / "zarr.json").write_bytes(content)
    with pytest.raises(StoreError):
        FeatureStore.open(path)
    assert [fault.kind for fault in verify_store(path).faults] == ["header"]
    report = repair_store(path)
    assert report.lost_header == ("provenance", "card")
    assert Path(report.aside, "zarr.json").read_bytes() == content
    for name in ("identity", "embedding", "parts"):
        assert header_of(path)[name] == before[name]
    assert verify_store(path).faults == ()


def test_what_is_no_store_is_told_as_before(path: Path, tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(StoreError, match="no r2t feature store"):
        verify_store(tmp_path / "other.zarr")
    edit_header(path, lambda header: header.update(format_version=9))
    with pytest.raises(StoreError, match="format version 9, this r2t reads"):
        verify_store(path)
    for file in path.glob("parts/*/*/zarr.json"):
        edit(file, lambda node: node["attributes"].pop("made_with"))
    (path / "zarr.json").write_bytes(b"")
    with pytest.raises(StoreError, match=r"cannot read .*another copy of the store has it all"):
        verify_store(path)


def test_a_damaged_header_is_not_trusted_because_something_repeats_it(path: Path) -> None:
    """A copy that is damaged proves nothing."""
    edit_header(path, lambda header: header["identity"].update(model="another"))
    for file in path.glob("parts/*/*/zarr.json"):
        edit(file, lambda node: node["attributes"]["made_with"]["identity"].update(model="another"))
    before = (path / "zarr.json").read_bytes()
    found = verify_store(path)
    assert [fault.kind for fault in found.faults] == ["header"]
    assert "undo what was edited in zarr.json, or put" in found.faults[0].detail
    assert found.num_videos == len(TOKENS)  # which are looked at all the same
    with pytest.raises(CorruptFeatureError, match=r"proves what it was made with.*another copy"):
        repair_store(path)
    assert (path / "zarr.json").read_bytes() == before


def test_the_header_of_another_store_is_told(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.zarr"
    FeatureStore.create(other, small_spec(model="another"))
    shutil.copy(other / "zarr.json", path / "zarr.json")
    assert any(
        str(fault).startswith("header: zarr.json: it is of another store: part parts/index/")
        for fault in verify_store(path).faults
    )
    with pytest.raises(CorruptFeatureError, match="of another store"):
        repair_store(path)


def test_a_part_of_another_store_is_told(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.zarr"
    with FeatureStore.create(other, small_spec(model="another")).writer() as writer:
        writer.add_queries(*columns(small_query("of the other")))
    [foreign] = [each for each in (other / "parts" / "queries").iterdir() if each.is_dir()]
    mixed_in = path / "parts" / "queries" / foreign.name
    shutil.copytree(foreign, mixed_in)
    before = files(path)
    with pytest.raises(CorruptFeatureError, match=f"it or part .*{foreign.name} is of another"):
        repair_store(path)
    assert files(path) == before
    mixed_in.rename(tmp_path / foreign.name)  # as the refusal says
    repair_store(path)
    assert verify_store(path).faults == ()


@pytest.mark.parametrize("value", [float("nan"), 2**60, "\ud800"], ids=["nan", "large", "half"])
def test_a_header_that_has_no_digest_is_told(tmp_path: Path, value: object) -> None:
    """Its values are none that the format's JSON has, and no part proves what it said."""
    path = tmp_path / "feats.zarr"
    FeatureStore.create(path, small_spec())
    edit_header(path, lambda header: header["provenance"].update(by=value))
    for look in (verify_store, repair_store):
        with pytest.raises(CorruptFeatureError, match=r"damaged.*undo what was edited"):
            look(path)


def test_a_header_in_a_bucket_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    service = use_memory(monkeypatch)
    with FeatureStore.create(URL, small_spec()).writer() as writer:
        write_video(writer, "dog", TOKENS["dog"])
    bucket = service.connect(URL)
    found = bucket.read_object("zarr.json")
    assert found is not None
    assert bucket.replace("zarr.json", found[0].replace(b'"small"', b'"smell"'), found[1])
    assert [fault.kind for fault in verify_store(URL).faults] == ["header"]
    assert repair_store(URL).lost_header == ()
    assert bucket.read("zarr.json") == found[0]
    assert verify_store(URL).faults == ()


def test_the_manifest_is_made_anew_and_a_damaged_header_is_not_sealed(path: Path) -> None:
    FAULTS["deleted index"][0](path)
    kinds = sorted(fault.kind for fault in verify_store(path).faults)
    assert kinds == ["manifest", "not-indexed", "not-indexed"]
    repair_store(path)
    assert verify_store(path).faults == ()
    edit(path / "zarr.json", lambda node: node["attributes"]["r2t"]["provenance"].update(by="me"))
    before = (path / "zarr.json").read_bytes()
    with pytest.raises(CorruptFeatureError, match="header_digest"):
        record_parts(LocalPublisher(path, path.parent))
    assert (path / "zarr.json").read_bytes() == before


def test_what_an_upgrade_left_is_cleared_and_a_card_is_not_foreign(path: Path) -> None:
    for name in ("README.md", "croissant.json"):
        (path / name).write_text("of the owner")
    assert verify_store(path).faults == ()
    for kind in ("index", "queries"):
        shutil.copytree(path / "parts" / kind, path / kind)
    assert {str(fault).partition(":")[0] for fault in verify_store(path).faults} == {"left-over"}
    report = repair_store(path)
    assert (report.set_aside, report.lost_queries) == ((), ())
    assert verify_store(path).faults == ()
    assert {each.name for each in path.iterdir()} == {
        *("zarr.json", "videos", "parts", "README.md", "croissant.json")
    }


def test_a_part_whose_digest_fails_decides_nothing(path: Path) -> None:
    FAULTS["flipped byte of an index"][0](path)
    assert [fault.kind for fault in verify_store(path).faults] == ["part", "stale-index"]
    repair_store(path)
    assert FeatureStore.open(path).read_video("dog").duration_seconds == 10.0


def test_what_a_killed_run_left_is_a_note_and_the_next_run_clears_it(path: Path) -> None:
    left = path.with_name("feats.zarr.partial")
    with FeatureStore.open(path).writer() as writer:
        shutil.copytree(left, path.with_name("copy"))  # as a killed run leaves it: without a lock
        write_video(writer, "cat", random_tokens(3))
    path.with_name("copy").rename(left)
    report = verify_store(path)
    assert report.faults == ()
    assert [Path(folder).parent for folder in report.dead_runs] == [left]
    answer = CliRunner().invoke(app, ["verify", str(path)])
    assert answer.exit_code == 0
    assert "the next run removes it" in answer.stderr
    with FeatureStore.open(path).writer():
        pass
    assert not left.exists()


def test_what_another_machine_left_is_cleared_after_a_day_or_by_repair(path: Path) -> None:
    dead = path.with_name("feats.zarr.partial") / "0123456789ab-00000000"
    dead.mkdir(parents=True)
    with FeatureStore.open(path).writer():
        pass
    assert dead.is_dir()
    os.utime(dead, (0, 0))
    with FeatureStore.open(path).writer():
        pass
    assert not dead.exists()
    dead.mkdir(parents=True)
    assert repair_store(path).removed_runs == (str(dead),)


def test_a_rerun_extracts_what_was_listed(path: Path) -> None:
    shard(path).unlink()
    answer = CliRunner().invoke(app, ["repair", str(path)])
    assert answer.exit_code == 1
    listed = path.with_name("feats.zarr.extract-again.txt")
    assert listed.read_text() == f"{LONG}\n"
    store = FeatureStore.open(path)
    assert not store.has_video(LONG)
    with store.writer() as writer:
        write_video(writer, LONG, TOKENS[LONG])
    assert verify_store(path).faults == ()
    assert CliRunner().invoke(app, ["repair", str(path), "--json"]).exit_code == 0


def test_parts_are_joined_and_old_readers_see_what_they_saw(path: Path) -> None:
    store = FeatureStore.open(path)
    with store.writer() as writer:
        for number in range(3, 6):
            writer.add_queries(*columns(small_query(f"q{number}", seed=number)))
    expected = {name: store.read_query(name).tokens for name in store.query_digests()}
    digest = store.content_digest()
    report = repair_store(path)
    assert (report.num_parts_before, report.num_parts_after) == (5, 2)
    for opened in (store, FeatureStore.open(path)):
        for name, tokens in expected.items():
            np.testing.assert_array_equal(opened.read_query(name).tokens, tokens)
        assert opened.content_digest() == digest
    assert repair_store(path).num_parts_before == 2


def test_repair_leaves_a_live_run_alone(path: Path) -> None:
    with FeatureStore.open(path).writer() as writer:
        write_video(writer, "cat", random_tokens(3))
        repair_store(path)
        write_video(writer, "cow", random_tokens(4))
    assert verify_store(path).faults == ()
    assert set(FeatureStore.open(path).videos["video_id"]) == {*TOKENS, "cat", "cow"}


def test_one_maintenance_at_a_time(path: Path) -> None:
    with maintenance(path), pytest.raises(StoreError, match="another command"):
        repair_store(path)


def die(*_: object) -> None:
    raise KeyboardInterrupt


def remove_dog(path: Path) -> None:
    remove_videos(path, ["dog"])


@pytest.mark.parametrize(
    ("action", "step"),
    [
        (repair_store, "repair.replace_index"),
        (repair_store, "repair.join_parts"),
        (repair_store, "repair.PartWriter.drop"),
        (remove_dog, "remove.replace_index"),
        (remove_dog, "remove.replace_rows"),
        (remove_dog, "remove.PartWriter.drop"),
    ],
)
def test_maintenance_may_end_anywhere_and_be_repeated(
    path: Path, action: Callable[[Path], object], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FeatureStore.open(path).writer() as writer:
        writer.add_queries(*columns(small_query("q3", LONG, seed=3)))
    FAULTS["flipped byte of an index"][0](path)
    with monkeypatch.context() as patch:
        patch.setattr(f"r2t.store.change.{step}", die)
        with pytest.raises(KeyboardInterrupt):
            action(path)
    FeatureStore.open(path)
    action(path)
    repair_store(path)
    assert verify_store(path).faults == ()
    assert {"q2", "q3"} <= set(FeatureStore.open(path).queries["query_id"])


def test_a_removed_video_is_gone_from_the_disk(path: Path) -> None:
    answer = CliRunner().invoke(app, ["remove", str(path), "dog", "--json"])
    assert answer.exit_code == 0
    assert json.loads(answer.stdout) == {"num_videos": 1, "num_queries": 1}
    store = FeatureStore.open(path)
    assert store.videos["video_id"].tolist() == [LONG]
    assert store.queries["query_id"].tolist() == ["q2"]
    assert store.read_query("q2").tokens.any()
    assert verify_store(path).faults == ()
    everything = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    assert b"dog.mp4" in everything  # as the source of the other video
    assert TOKENS["dog"].tobytes()[:64] not in everything
    assert [file.name for file in path.parent.iterdir()] == ["feats.zarr"]


def test_removing_what_is_not_there_changes_nothing(path: Path) -> None:
    before = files(path)
    with pytest.raises(FeatureNotFoundError, match=r"no videos 'cat'; nothing was removed"):
        remove_videos(path, ["dog", "cat"])
    assert files(path) == before


def test_removing_every_video_and_query(path: Path) -> None:
    assert remove_videos(path, list(TOKENS), keep_queries=True).num_queries == 0
    assert len(FeatureStore.open(path).queries) == 2
    assert remove_videos(path, list(TOKENS)).num_queries == 2
    store = FeatureStore.open(path)
    assert store.videos.empty
    assert store.queries.empty
    assert verify_store(path).faults == ()


def test_coverage_tells_both_gaps(path: Path, tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["coverage", str(path)]).exit_code == 0
    with FeatureStore.open(path).writer() as writer:
        write_video(writer, "cat", random_tokens(3))
        writer.add_queries(*columns(small_query("q3", "cow"), small_query("q4", "cow")))
    listed = tmp_path / "missing.txt"
    answer = CliRunner().invoke(app, ["coverage", str(path), "--list", str(listed)])
    assert answer.exit_code == 1
    assert answer.stdout.splitlines()[:2] == ["no features: cow (2 queries)", "no annotations: cat"]
    assert listed.read_text() == "cow\n"
    csv = tmp_path / "more.csv"
    csv.write_text("video,query,start,end\ndog,a dog sleeps,1,2\n")
    answer = CliRunner().invoke(app, ["coverage", str(path), "--annotations", str(csv), "--json"])
    found = json.loads(answer.stdout)
    assert answer.exit_code == 1
    assert found["annotated_without_features"] == {}
    assert found["features_without_annotations"] == [LONG, "cat"]
    assert len(found["queries_without_features"]) == 1
    answer = CliRunner().invoke(app, ["coverage", str(path), "--annotations", str(csv)])
    assert "query not stored: 'a dog sleeps' of 'dog'\n" in answer.stdout


def test_the_index_part_that_repair_writes_reads_as_before(path: Path) -> None:
    expected = FeatureStore.open(path).videos
    shutil.rmtree(part(path, "index"))
    repair_store(path)
    found = FeatureStore.open(path).videos
    assert found.sort_values("video_id", ignore_index=True).equals(
        expected.sort_values("video_id", ignore_index=True)
    )


@pytest.mark.parametrize("is_link", [False, True])
def test_what_is_no_folder_is_removed_under_a_videos_name(path: Path, is_link: bool) -> None:
    """A stray file, or a link, whose target stays."""
    node, elsewhere = path / "videos" / "stray", path.parent / "elsewhere"
    elsewhere.mkdir()
    node.symlink_to(elsewhere) if is_link else node.write_text("?")
    assert remove_videos(path, ["stray"]).num_videos == 1
    assert not node.exists()
    assert elsewhere.is_dir()
    assert not path.with_name(f"{path.name}.partial").exists()
