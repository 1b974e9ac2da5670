"""Joining parts changes what a store is made of and nothing that it holds, whatever happens."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from features import (
    columns,
    committed_parts,
    leftovers,
    random_embeddings,
    random_tokens,
    small_query,
    small_spec,
    unpack_version_1,
    write_video,
)
from s3_server import s3_server
from servers import scripted_server
from typer.testing import CliRunner

from r2t.cli.commands.store.store import app
from r2t.store import EmbeddingSpec, FeatureStore, QueryFeatures
from r2t.store.change import compact
from r2t.store.change.compact import compact_store
from r2t.store.change.rewrite import change_queries
from r2t.store.check import verify
from r2t.store.check.verify import verify_store
from r2t.store.errors import CorruptFeatureError, StoreError
from r2t.store.format import manifest, part_files
from r2t.store.format.part_writer import PartWriter, following_part_name, new_part_name
from r2t.store.format.query_rows import query_columns
from r2t.store.publish.local import LocalPublisher
from r2t.store.sources import connect

NUM_RUNS = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a video and a few queries of each of several runs, and embeddings."""
    path = tmp_path_factory.mktemp("whole") / "feats.zarr"
    store = FeatureStore.create(path, small_spec(), embedding=EmbeddingSpec(width=5))
    for run in range(NUM_RUNS):
        with store.writer() as writer:
            embeddings = random_embeddings(3, seed=run)
            write_video(writer, f"v{run}", random_tokens(3, seed=run), embedding=embeddings)
            writer.add_queries(*columns(*(query(run, number) for number in range(3))))
    return path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "feats.zarr"))


def query(run: int, number: int) -> tuple[Any, QueryFeatures]:
    annotation, features = small_query(
        f"q{run}-{number}", f"v{run}", text=f"sentence {number}é", words=2 + number, seed=run
    )
    embedding = random_embeddings(1, seed=10 * run + number)[0]
    return annotation, QueryFeatures(features.query_id, features.tokens, embedding)


def content(location: Path | str) -> list[Any]:
    """Return all that the parts of a store hold, in order of writing."""
    store = FeatureStore.open(location)
    read = [store.read_query(each.query_id) for each in store.annotations()]
    return [
        store.video_rows(),
        [repr(vars(annotation)) for annotation in store.annotations()],
        [(each.query_id, each.tokens.tobytes(), as_bytes(each.embedding)) for each in read],
        store.content_digest(),
    ]


def as_bytes(values: Any) -> bytes | None:
    return None if values is None else values.tobytes()


def num_parts(path: Path) -> tuple[int, int]:
    return len(committed_parts(path, "index")), len(committed_parts(path, "queries"))


def test_what_a_store_holds_stays_and_keeps_its_order(path: Path) -> None:
    before = content(path)
    opened = FeatureStore.open(path)
    report = compact_store(path)
    assert (report.num_parts_before, report.num_parts_after, report.num_joined) == (6, 2, 6)
    assert num_parts(path) == (1, 1)
    assert content(path) == before
    assert verify_store(path).faults == ()
    assert not leftovers(path)
    # A store that was opened before goes on, though all that it knew of is gone.
    assert opened.read_query("q0-1").tokens.tobytes() == before[2][1][1]
    assert len(opened.annotations()) == 3 * NUM_RUNS
    again = compact_store(path)
    assert (again.num_parts_before, again.num_parts_after, again.num_joined) == (2, 2, 0)


def test_a_reader_lets_go_of_parts_that_were_joined(path: Path) -> None:
    opened = FeatureStore.open(path)
    assert len(opened.annotations()) == 3 * NUM_RUNS
    before = [weakref.ref(part) for part in opened._parts._known["queries"].values()]
    compact_store(path)
    assert opened.refresh()
    gc.collect()
    assert [part() for part in before] == [None] * NUM_RUNS


@pytest.mark.parametrize("rows", [3, 5, 6, 7])
def test_parts_stay_below_a_limit_and_large_ones_as_they_are(
    path: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(path)
    monkeypatch.setattr(compact, "MAX_ROWS", {"index": rows, "queries": rows})
    compact_store(path)
    assert content(path) == before
    # Parts of three rows: two of them fit in six, and three are more than half of five.
    assert num_parts(path)[1] == (2 if rows >= 6 else NUM_RUNS)
    assert verify_store(path).faults == ()


def test_a_part_that_outweighs_the_others_is_not_written_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compact_store(path)
    (large,) = committed_parts(path, "queries")
    monkeypatch.setattr(compact, "_SMALL_ROWS", 5)
    for number in range(2):
        with FeatureStore.open(path).writer() as writer:
            writer.add_queries(*columns(query(8, number)))
    before = content(path)
    compact_store(path)
    first, second = committed_parts(path, "queries")
    assert (first, content(path)) == (large, before)
    assert second > large


def test_many_columns_lie_apart_and_are_read_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(path)
    monkeypatch.setattr(part_files, "_APART_ROWS", 2)
    monkeypatch.setattr(part_files, "_APART_CHUNK_BYTES", 300)  # four texts, so several chunks
    compact_store(path)
    assert content(path) == before
    assert verify_store(path).faults == ()
    (part,) = (path / "parts" / "queries").glob("*-*")
    group: Any = zarr.open_group(part, mode="r")
    names = list(group.attrs["texts"])
    assert group["texts"].chunks == (4, 1)
    assert group["texts"][:, names.index("text")].tolist()[:2] == ["sentence 0é", "sentence 1é"]
    with scripted_server(path.parent) as (url, plan):
        assert content(f"{url}/feats.zarr") == before
        plan.requests.clear()
        store = FeatureStore.open(f"{url}/feats.zarr")
        chunks = [each for each in plan.requests if "/queries/" in each and "/c/" in each]
        place = names.index("query_id")
        assert sorted(each.split("/c/")[1] for each in chunks) == [
            f"{chunk}/{place}" for chunk in range(3)
        ]
        plan.requests.clear()
        assert len(store.annotations()) == 3 * NUM_RUNS
        assert not any(f"texts/c/0/{place}" in each for each in plan.requests)


def test_equal_rows_are_kept_once_and_unequal_ones_refused(path: Path) -> None:
    before = content(path)
    with LocalPublisher(path) as publisher:
        parts = PartWriter(publisher, FeatureStore.open(path).header)
        parts.commit("queries", query_columns(*columns(query(1, 0), query(2, 2))))
    compact_store(path)
    assert content(path) == before
    (part,) = (path / "parts" / "queries").glob("*-*")
    group: Any = zarr.open_group(part, mode="r")
    assert group["texts"].shape[0] == 3 * NUM_RUNS
    other, features = small_query("q1-0", "v1", text="another one")
    with LocalPublisher(path) as publisher:
        embedded = QueryFeatures("q1-0", features.tokens, random_embeddings(1)[0])
        parts = PartWriter(publisher, FeatureStore.open(path).header)
        parts.commit("queries", query_columns([other], [embedded]))
    with pytest.raises(StoreError, match=r"'q1-0' is another one in an earlier part.*verify"):
        compact_store(path)
    assert num_parts(path) == (1, 2)


@pytest.mark.parametrize("array", ["tokens", "texts", "embedding", "numbers", "offsets"])
def test_damage_is_not_carried_on(path: Path, array: str) -> None:
    (damaged, *_) = sorted((path / "parts" / "queries").glob("*-*"))
    file = next(each for each in (damaged / array / "c").rglob("*") if each.is_file())
    file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1]))
    with pytest.raises(CorruptFeatureError):
        compact_store(path)
    assert num_parts(path) == (1, NUM_RUNS)
    assert damaged.is_dir()
    assert [fault.place for fault in verify_store(path).faults if fault.kind == "part"] == [
        f"parts/queries/{damaged.name}"
    ]


def test_a_run_may_add_meanwhile(path: Path) -> None:
    writer = FeatureStore.open(path).writer()
    with writer:

        def add(done: float, total: float) -> None:
            writer.add_queries(*columns(query(7, int(done))))

        compact_store(path, on_part=add)
    store = FeatureStore.open(path)
    assert len(store.queries) == 3 * NUM_RUNS + 2
    assert store.read_query("q7-3").tokens.any()
    assert verify_store(path).faults == ()


def test_a_replaced_part_does_not_come_back(path: Path) -> None:
    annotation, features = small_query("q0-0", "v0", text="other words")
    change_queries(
        path, [(annotation, QueryFeatures("q0-0", features.tokens, random_embeddings(1)[0]))]
    )
    before = content(path)
    compact_store(path)
    assert content(path) == before
    assert num_parts(path) == (1, 1)


STEPS = ("add", "drop", "change")


def dying(step: str, calls: list[str], last: int) -> Callable[..., Any]:
    """Return a step of a publisher that dies where it would be the n-th of all."""
    own = getattr(LocalPublisher, step)

    def run(publisher: LocalPublisher, *arguments: Any) -> Any:
        if len(calls) == last:
            raise KeyboardInterrupt
        calls.append(step)
        return own(publisher, *arguments)

    return run


def test_it_may_be_killed_between_any_two_steps_and_repeated(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(whole)
    calls: list[str] = []
    for last in range(100):
        path = Path(shutil.copytree(whole, tmp_path / f"{last}.zarr"))
        calls.clear()
        with monkeypatch.context() as patch:
            for step in STEPS:
                patch.setattr(LocalPublisher, step, dying(step, calls, last))
            try:
                compact_store(path)
            except KeyboardInterrupt:
                assert len(calls) == last
            else:
                break
        assert content(path) == before
        assert {fault.kind for fault in verify_store(path).faults} <= {"manifest"}
        compact_store(path)
        assert content(path) == before
        assert num_parts(path) == (1, 1)
        shutil.rmtree(path)
    assert {step: calls.count(step) for step in STEPS} == {
        "add": 2,
        "drop": 2 * NUM_RUNS,
        "change": 2 + 2 + 1 + 4,
    }


def test_a_store_of_version_1(tmp_path: Path) -> None:
    unpack_version_1(tmp_path)
    path = tmp_path / "float16.zarr"
    before = content(path)
    compact_store(path)
    assert content(path) == before
    assert verify_store(path).faults == ()


def test_a_store_in_a_bucket(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(path)
    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        url = f"{server.url}/feats.zarr"
        bucket = connect(url)
        for file in path.rglob("*"):
            if file.is_file():
                bucket.create(str(file.relative_to(path)), file.read_bytes())
        opened = FeatureStore.open(url)
        report = compact_store(url)
        assert (report.num_parts_before, report.num_parts_after) == (6, 2)
        assert content(url) == before
        assert len(opened.annotations()) == 3 * NUM_RUNS
        assert verify_store(url).faults == ()


def test_names_follow_and_leave_room() -> None:
    latest = new_part_name()
    following = following_part_name(latest)
    assert latest < following < new_part_name()
    assert len(following_part_name(following)) == len(following)
    assert following_part_name("zz") > "zz"
    last = "99991231T235959999999-aa"
    assert following_part_name(last) > last
    assert following_part_name(f"{latest}-{'0' * 12}") > f"{latest}-{'0' * 12}"


def test_the_command_says_so_and_info_when_it_is_due(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r2t.cli.commands.store.info.MANY_PARTS", 5)
    hint = CliRunner().invoke(app, ["info", str(path)])
    assert "--compact" in hint.stderr
    answer = CliRunner().invoke(app, ["repair", str(path), "--compact", "--json"])
    assert json.loads(answer.stdout) == {
        "num_parts_before": 6,
        "num_parts_after": 2,
        "num_joined": 6,
    }
    found = CliRunner().invoke(app, ["info", str(path), "--json"])
    assert json.loads(found.stdout)["parts"] == {"index": 1, "queries": 1}
    assert "--compact" not in CliRunner().invoke(app, ["info", str(path)]).stderr


def test_a_store_with_too_many_parts_is_refused_until_they_are_joined(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r2t.store.format.tables.MOST_LISTED", 2)
    with pytest.raises(StoreError, match=r"3 .* parts, more than the 2 .*--compact"):
        FeatureStore.open(path)
    assert manifest.MOST_LISTED > 3
    compact_store(path)
    assert len(FeatureStore.open(path)) == NUM_RUNS
    np.testing.assert_array_equal(
        FeatureStore.open(path).read_query("q1-1").tokens, query(1, 1)[1].tokens
    )


def test_more_parts_than_a_manifest_names_are_joined_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("tables", "manifest"):
        monkeypatch.setattr(f"r2t.store.format.{module}.MOST_LISTED", 2)
    compact_store(path)
    assert num_parts(path) == (1, 1)
    assert verify_store(path).faults == ()


@pytest.mark.parametrize("read", ["read_query", "read_query_embedding"])
def test_a_reader_goes_on_though_another_thread_saw_the_joined_parts_first(
    path: Path, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    store = FeatureStore.open(path)
    compact_store(path)
    refresh = store.refresh
    monkeypatch.setattr(store, "refresh", lambda: (refresh(), refresh())[1])
    found = getattr(store, read)("q1-1")
    expected = query(1, 1)[1]
    if read == "read_query":
        np.testing.assert_array_equal(found.tokens, expected.tokens)
    else:
        np.testing.assert_array_equal(found, expected.embedding)


def test_verify_finds_no_fault_in_parts_that_were_joined_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = verify.live_parts

    def join(*given: Any) -> tuple[list[str], list[str]]:
        found = look(*given)
        monkeypatch.undo()
        compact_store(path)
        return found

    monkeypatch.setattr(verify, "live_parts", join)
    report = verify_store(path)
    assert report.faults == ()
    assert (report.num_videos, report.num_queries, report.num_parts) == (3, 9, 2)
