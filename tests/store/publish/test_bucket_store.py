"""Stores that are made and changed in a bucket: what a service does, and how often it is asked."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from features import columns, random_tokens, small_query, small_spec, write_video
from memory_bucket import URL, use_memory
from s3_server import Fault, S3Request, S3Server, s3_server

from r2t.store import FeatureStore
from r2t.store.card.texts import CardTexts
from r2t.store.card.write import write_card
from r2t.store.change.licence import licences, set_licence
from r2t.store.change.merge import merge_stores
from r2t.store.change.remove import remove_videos
from r2t.store.change.repair import repair_store
from r2t.store.change.subset import subset_store
from r2t.store.check import verify
from r2t.store.check.verify import verify_store
from r2t.store.errors import ServerError, StoreError
from r2t.store.publish import bucket, bucket_node, conditions, file_beside, lease, publisher_at
from r2t.store.publish.bucket import BucketPublisher
from r2t.store.sources import StoreRoot, connect, retries

TOKENS = {"a dog": random_tokens(2, seed=1), "long": random_tokens(151, seed=2)}


@pytest.fixture(scope="module")
def running() -> Generator[S3Server]:
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def server(
    running: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Generator[S3Server]:
    monkeypatch.setattr(retries, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    running.count()
    yield running
    running.fault = lambda _: None


def fill(url: str) -> None:
    store = FeatureStore.create(url, small_spec())
    with store.writer() as writer:
        for video_id, tokens in TOKENS.items():
            if store.has_video(video_id):
                writer.index(video_id)
            else:
                write_video(writer, video_id, tokens)
        writer.add_queries(*columns(small_query("q1", "long")))


def require_filled(url: str) -> None:
    store = FeatureStore.open(url)
    for video_id, tokens in TOKENS.items():
        assert np.array_equal(store.read_video(video_id).tokens, tokens)
    report = verify_store(url)
    assert report.faults == ()
    assert (report.num_videos, report.num_queries) == (2, 1)


def test_a_video_takes_a_request_for_each_file_and_one_to_look(server: S3Server) -> None:
    url = f"{server.url}/counted.zarr"
    with FeatureStore.create(url, small_spec()).writer() as writer:
        server.count()
        write_video(writer, "a dog", TOKENS["a dog"])
        assert server.count() == {"GET": 1, "PUT": 3}
        write_video(writer, "long", TOKENS["long"])  # of two shards
        assert server.count() == {"GET": 1, "PUT": 4}
        write_video(writer, "long", TOKENS["long"])  # again: what is there is not sent
        assert "PUT" not in server.count()
    assert not list(Path(os.environ["TMPDIR"]).rglob("*.partial"))


@pytest.mark.parametrize("fault", ["lost answer", "internal error"])
def test_a_request_that_fails_once_changes_nothing(server: S3Server, fault: Fault) -> None:
    """The answer of each PUT is lost, so that its second attempt meets what the first has put."""
    failed: set[str] = set()

    def once(request: S3Request) -> Fault | None:
        if request.kind != "PUT" or request.key in failed:
            return None
        failed.add(request.key)
        return fault

    url = f"{server.url}/{fault.replace(' ', '-')}.zarr"
    server.fault = once
    fill(url)
    assert len(failed) > 20
    server.fault = lambda _: None
    require_filled(url)


@pytest.mark.parametrize(
    ("fault", "message"),
    [("expired token", "expired; get new ones.*same command"), ("over quota", "quota")],
)
def test_a_run_that_is_refused_from_some_time_on_is_taken_up_again(
    server: S3Server, fault: Fault, message: str
) -> None:
    url = f"{server.url}/{fault.replace(' ', '-')}.zarr"
    FeatureStore.create(url, small_spec())
    begun: list[int] = []

    def later(request: S3Request) -> Fault | None:
        begun.append(request.number)
        return fault if len(begun) > 15 else None

    server.fault = later
    with pytest.raises(ServerError, match=message):
        fill(url)
    server.fault = lambda _: None
    fill(url)
    require_filled(url)


@pytest.mark.parametrize("fault", ["no conditions", "deaf to conditions"])
def test_a_service_without_conditions_is_refused(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(conditions, "_proven_buckets", set[str]())
    server.fault = lambda request: fault if request.is_conditional else None
    with pytest.raises(StoreError, match=r"conditions of a PUT|conditional PUTs"):
        FeatureStore.create(f"{server.url}/refused.zarr", small_spec())
    server.fault = lambda _: None
    assert connect(f"{server.url}/refused.zarr").objects_below("") == {}


def test_eight_writers_of_one_video(server: S3Server) -> None:
    url = f"{server.url}/eight.zarr"
    FeatureStore.create(url, small_spec())
    failures: list[BaseException] = []

    def write() -> None:
        try:
            with FeatureStore.open(url).writer() as writer:
                write_video(writer, "long", TOKENS["long"])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    store = FeatureStore.open(url)
    assert list(store) == ["long"]
    assert np.array_equal(store.read_video("long").tokens, TOKENS["long"])
    assert verify_store(url).faults == ()


def test_every_command_that_changes_a_store(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service = use_memory(monkeypatch)
    here = tmp_path / "feats.zarr"
    fill(str(here))
    report = merge_stores([here], URL)
    assert (report.num_videos, report.num_linked, report.num_queries) == (2, 0, 1)
    require_filled(URL)
    assert merge_stores([here], URL).num_present == 2
    subset_store(URL, "s3://memory/some.zarr", video_ids=["long"])
    assert list(FeatureStore.open("s3://memory/some.zarr")) == ["long"]
    subset_store(URL, "s3://memory/cls.zarr", cls_only=True)
    assert verify_store("s3://memory/cls.zarr").faults == ()
    assert set_licence(URL, "CC0-1.0") == 2
    assert set(licences(URL).values()) == {"CC0-1.0"}
    assert write_card(URL, CardTexts(title="Dogs"))[0] == f"{URL}/README.md"
    require_filled(URL)
    assert remove_videos(URL, ["a dog"]).num_videos == 1
    assert list(FeatureStore.open(URL)) == ["long"]
    assert verify_store(URL).faults == ()
    fill(URL)  # at once, though something marks the place
    require_filled(URL)
    assert set(service.connect(f"{URL}.partial").objects_below("")) == set()


def test_repair_sets_aside_what_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    service = use_memory(monkeypatch)
    fill(URL)
    objects = service.connect(URL)
    shard = "videos/long/tokens/c/0/1/0/0"
    found = objects.read_object(shard)
    assert found is not None
    damaged = bytes([found[0][0] ^ 1]) + found[0][1:]
    assert objects.replace(shard, damaged, found[1])
    objects.create("foreign.txt", b"?")
    report = repair_store(URL)
    assert report.extract_again == ("long",)
    assert set(report.set_aside) == {"foreign.txt", "videos/long"}
    aside = service.connect(report.aside)
    assert aside.read("foreign.txt") == b"?"
    assert aside.read(shard) == damaged
    assert verify_store(URL).faults == ()
    fill(URL)
    require_filled(URL)


def test_what_was_left_is_cleared_after_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    service = use_memory(monkeypatch)
    fill(URL)
    objects = service.connect(URL)
    remove_videos(URL, ["a dog"])
    objects.create("videos/left/tokens/c/0/0/0/0", b"of a writer that was killed")
    objects.create("parts/index/20200101T000000000000-0123456789ab/texts/c/0", b"the same")
    before = set(objects.objects_below(""))
    report = verify_store(URL)
    assert (report.faults, len(report.live_runs)) == ((), 2)
    assert repair_store(URL).removed_runs == ()
    assert set(objects.objects_below("")) == before
    for module in (bucket, lease):
        monkeypatch.setattr(module, "SILENT_SECONDS", -1.0)
    assert len(verify_store(URL).dead_runs) == 2
    assert len(repair_store(URL).removed_runs) == 2
    assert set(objects.objects_below("videos/left")) == {"videos/left/zarr.json"}  # a day longer
    assert repair_store(URL).removed_runs == ()
    assert [key for key in objects.objects_below("videos") if "long" not in key] == [
        "videos/zarr.json"
    ]
    assert verify_store(URL).faults == ()


def test_one_command_at_a_time_replaces_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    use_memory(monkeypatch)
    fill(URL)
    with publisher_at(URL).maintenance():
        with pytest.raises(StoreError, match=r"another command .*process [0-9]+.*change\.json"):
            repair_store(URL)
        monkeypatch.setattr(lease, "SILENT_SECONDS", -1.0)
        repair_store(URL)  # the other has been silent for so long
    assert remove_videos(URL, ["long"]).num_videos == 1


def test_a_place_that_holds_other_things(monkeypatch: pytest.MonkeyPatch) -> None:
    service = use_memory(monkeypatch)
    service.connect("s3://memory/videos-of-mine").create("dog.mp4", b"?")
    with pytest.raises(StoreError, match=r"not empty: it holds dog\.mp4"):
        FeatureStore.create("s3://memory/videos-of-mine", small_spec())
    for url in ("https://example.org/feats.zarr", f"{URL}.zip"):
        with pytest.raises(StoreError, match="on a local disk or in a bucket"):
            FeatureStore.create(url, small_spec())


def test_a_store_that_lacks_its_header_gets_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a copy that broke off left was made with settings that nobody knows any more."""
    service = use_memory(monkeypatch)
    fill(URL)
    service.connect(URL).delete(["zarr.json"])
    with pytest.raises(StoreError, match=r"zarr\.json is missing, though .* copied halfway"):
        fill(URL)
    assert service.connect(URL).look("zarr.json") is None


def test_a_scratch_folder_without_room_or_of_somebody_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service = use_memory(monkeypatch)
    store = FeatureStore.create(URL, small_spec())
    with store.writer() as writer:
        with monkeypatch.context() as patch:
            patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
            with pytest.raises(StoreError, match="set TMPDIR"):
                write_video(writer, "long", TOKENS["long"])
        write_video(writer, "long", TOKENS["long"])
    (tmp_path / f"r2t-{os.getuid()}").symlink_to(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(StoreError, match="not this user's own"):
        BucketPublisher(service.connect(URL)).__enter__()


def test_who_holds_a_video_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    service = use_memory(monkeypatch)
    store = FeatureStore.create(URL, small_spec())
    mark = bucket_node.new_mark("replace")
    objects = service.connect(URL)
    objects.create("videos/long/zarr.json", mark)
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:  # the other gives up
            found = objects.read_object("videos/long/zarr.json")
            assert found is not None
            assert objects.replace(
                "videos/long/zarr.json", bucket_node.new_mark("removed"), found[1]
            )

    monkeypatch.setattr("time.sleep", wait)
    with store.writer() as writer:
        write_video(writer, "long", TOKENS["long"])
    assert len(waited) == 3
    assert np.array_equal(store.read_video("long").tokens, TOKENS["long"])


@pytest.mark.parametrize("slash", ["", "/"])
def test_repair_leaves_alone_what_is_written_meanwhile(
    monkeypatch: pytest.MonkeyPatch, slash: str
) -> None:
    """A video is begun after the first look and committed before anything is set aside."""
    service = use_memory(monkeypatch)
    fill(URL)
    objects = service.connect(URL)
    late = {
        key.replace("long", "late"): objects.read(key) or b""
        for key in objects.objects_below("videos/long")
    }
    document = late.pop("videos/late/zarr.json")
    look, clear = verify.unfinished_work, BucketPublisher.clear

    def begin(root: StoreRoot) -> dict[str, bool]:
        found = look(root)
        for key, content in late.items():
            objects.create(key, content)
        return found

    def commit(publisher: BucketPublisher) -> list[str]:
        objects.create("videos/late/zarr.json", document)
        return clear(publisher)

    monkeypatch.setattr(verify, "unfinished_work", begin)
    monkeypatch.setattr(BucketPublisher, "clear", commit)
    report = repair_store(f"{URL}{slash}")
    assert report.set_aside == report.extract_again == ()
    assert objects.objects_below("videos/late").keys() == {*late, "videos/late/zarr.json"}


def test_what_is_committed_and_indexed_while_a_store_is_looked_at_stays_in_the_index(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_memory(monkeypatch)
    fill(URL)
    names = verify.names_in

    def listed(root: StoreRoot, folder: str) -> list[str]:
        found = names(root, folder)
        with FeatureStore.open(URL).writer() as writer:
            write_video(writer, "late", TOKENS["long"])
        return found

    monkeypatch.setattr(verify, "names_in", listed)
    assert repair_store(URL).extract_again == ()
    assert set(FeatureStore.open(URL)) == {"late", *TOKENS}


def test_a_lost_answer_is_no_other_commands_doing(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where conditions are tried, nor where a dead command's place is taken."""
    url = f"{server.url}/lost.zarr"
    fill(url)
    begun: Counter[str] = Counter()

    def every_second(request: S3Request) -> Fault | None:
        begun[request.key] += request.kind == "PUT"
        return "lost answer" if request.kind == "PUT" and begun[request.key] % 2 else None

    publisher_at(url).maintenance().__enter__()  # and is killed
    monkeypatch.setattr(lease, "SILENT_SECONDS", -1.0)
    monkeypatch.setattr(conditions, "_proven_buckets", set[str]())
    server.fault = every_second
    assert repair_store(url).faults == ()
    assert sorted(count for key, count in begun.items() if ".partial/c" in key)[-1] == 4


def test_a_lost_answer_changes_a_file_beside_a_store_once(server: S3Server) -> None:
    begun: list[str] = []

    def first(request: S3Request) -> Fault | None:
        begun.extend([request.key] if request.kind == "PUT" else [])
        return "lost answer" if request.kind == "PUT" and len(begun) % 2 else None

    beside = file_beside(f"{server.url}/feats.zarr", ".failed.jsonl")
    server.fault = first
    for line in (b"a\n", b"b\n"):
        beside.change(lambda before, line=line: before + line)
    assert len(begun) == 4
    assert beside.read() == b"a\nb\n"


def test_what_was_put_takes_no_room_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_memory(monkeypatch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with FeatureStore.create(URL, small_spec()).writer() as writer:
        writer.add_queries(*columns(small_query("q1", "long")))
        (work,) = tmp_path.glob("r2t-*/bucket.partial/*")
        assert list(work.iterdir()) == []


def test_who_changes_many_videos_shows_to_be_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    service = use_memory(monkeypatch)
    fill(URL)
    monkeypatch.setattr(lease, "_RENEW_SECONDS", -1.0)
    publisher = publisher_at(URL)
    with publisher.maintenance():
        held = service.connect(f"{URL}.partial").read("change.json")
        assert held is not None
        publisher.change("zarr.json", lambda content: content)
        assert service.connect(f"{URL}.partial").read("change.json") not in (None, held)
