"""Stores in a bucket: read, asked as little as may be, and through every fault of a service."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from remote_store import TOKENS, require_readable, write_both
from s3_server import Fault, S3Request, S3Server, s3_server

from r2t.store import FeatureStore
from r2t.store.change.pack_set import pack_zip_set
from r2t.store.check.verify import verify_store
from r2t.store.errors import ServerError, StoreError
from r2t.store.publish.conditions import require_conditional_puts
from r2t.store.sources import Bucket, connect, connection, retries
from r2t.store.sources.cache import ByteCache
from r2t.store.sources.remote import open_folder

KEY = "feats.zarr/zarr.json"
FOR_A_MOMENT: list[Fault] = [
    "truncate",
    "lost answer",
    "dropped",
    "slow down",
    "internal error",
]
FOR_LONG: list[Fault] = ["stall", "stall in body", "drip"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_both(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def running(home: Path) -> Generator[S3Server]:
    """A service whose bucket holds the store, and the same store as a zip and as a set of zips."""
    pack_zip_set(home / "feats.zarr", home / "set", max_bytes=10_000)
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        bucket = connect(server.url)
        for file in home.rglob("*"):
            if file.is_file():
                assert bucket.create(str(file.relative_to(home)), file.read_bytes())
        yield server


@pytest.fixture
def server(running: S3Server, monkeypatch: pytest.MonkeyPatch) -> Generator[S3Server]:
    monkeypatch.setattr(retries, "_FIRST_PAUSE_SECONDS", 0.001)
    running.count()
    yield running
    running.fault = lambda _: None


def test_a_store_in_a_bucket(server: S3Server) -> None:
    for name in ("feats.zarr", "feats.zip"):
        require_readable(FeatureStore.open(f"{server.url}/{name}"))
    require_readable(FeatureStore.open(f"zip::{server.url}/feats.zip"))
    with pytest.raises(StoreError, match="no Zarr v3 group"):
        FeatureStore.open(f"{server.url}/nothing.zarr")
    with pytest.raises(StoreError, match="does not exist"):
        FeatureStore.open(f"{server.url}/nothing.zip")


def test_a_set_of_zips_moves_what_is_asked_for(server: S3Server) -> None:
    store = FeatureStore.open(f"{server.url}/set")
    assert sum(server.count().values()) <= 4
    require_readable(store)


def test_a_bucket_that_may_be_read_and_not_listed(server: S3Server) -> None:
    server.fault = lambda request: "denied" if request.kind == "LIST" else None
    require_readable(FeatureStore.open(f"{server.url}/feats.zarr"))


@pytest.mark.parametrize("name", ["feats.zarr", "feats.zip"])
def test_tokens_take_few_requests_and_none_from_a_cache(
    server: S3Server, name: str, tmp_path: Path
) -> None:
    cache = ByteCache(tmp_path / "cache", 10**6)
    found = FeatureStore.open(f"{server.url}/{name}", cache).locate_video("long")
    server.count()
    assert np.array_equal(found.read().tokens, TOKENS["long"])
    assert server.count() == {"GET": 5}
    again = FeatureStore.open(f"{server.url}/{name}", cache).locate_video("long")
    server.count()
    assert np.array_equal(again.read().tokens, TOKENS["long"])
    assert server.count() == {}


def test_ranges_end_where_the_object_does(server: S3Server) -> None:
    bucket = connect(f"{server.url}/ranges")
    content = bytes(range(100))
    assert bucket.create("a%20b é#?~", content)
    assert bucket.create("empty", b"")
    name = bucket.names("")[0]
    assert name == "a%20b é#?~"
    for start, stop in ((0, None), (0, 10), (90, 200), (100, 110), (500, 600), (7, 7)):
        assert bucket.read(name, start, stop) == content[start:stop]
    assert bucket.size(name) == 100
    assert bucket.read("empty") == b""
    assert bucket.size("empty") == 0
    assert bucket.read("nothing") is None
    assert bucket.look("nothing") is None
    assert bucket.read_object("nothing") is None
    assert bucket.names("nothing") == []
    with pytest.raises(StoreError, match="larger than 99 bytes"):
        bucket.read_object(name, most_bytes=99)


@pytest.mark.parametrize("fault", FOR_A_MOMENT)
def test_a_fault_for_a_moment_changes_no_byte(server: S3Server, fault: Fault) -> None:
    met: set[tuple[str, str]] = set()

    def once(request: S3Request) -> Fault | None:
        asked = (request.kind, request.key)
        if asked in met:
            return None
        met.add(asked)
        return fault

    server.fault = once
    require_readable(FeatureStore.open(f"{server.url}/feats.zarr"))
    assert len(server.requests) > len(met) > 20


@pytest.mark.parametrize("fault", [*FOR_A_MOMENT, "too much"])
def test_a_fault_that_lasts_ends_the_reading(server: S3Server, fault: Fault) -> None:
    store = FeatureStore.open(f"{server.url}/feats.zarr")
    server.fault = lambda request: fault if "/tokens/c/" in request.key else None
    with pytest.raises(ServerError, match=r"cannot read s3://.*/tokens/c/.* after [58] attempts"):
        store.read_video("long")


@pytest.mark.parametrize("fault", FOR_LONG)
def test_a_service_that_does_not_get_done_is_given_up(
    server: S3Server, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(connection, "REQUEST_SECONDS", 0.4)
    bucket = connect(server.url)
    server.fault = lambda _: fault if len(server.requests) < 2 else None
    with pytest.warns(match=r"does not answer; asked again, 2 more times"):
        whole = bucket.read(KEY)
    server.fault = lambda _: None
    assert whole == bucket.read(KEY)
    server.count()
    server.fault = lambda _: fault
    with (
        pytest.warns(match="does not answer"),
        pytest.raises(ServerError, match=r"after 3 attempts: .* was not done after"),
    ):
        bucket.read(KEY)
    assert server.count() == {"GET": 3}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("denied", r"cannot read .*access denied.*may read it"),
        ("no such key of yours", "does not know these credentials"),
        ("expired token", "have expired; get new ones, then run the same command again"),
        ("wrong clock", "the clock of this machine is wrong"),
        ("wrong region", "in another region.*set AWS_REGION=eu-west-1"),
        ("wrong region, unnamed", r"in another region.*curl -sI https://bucket-\d+\.s3"),
        ("over quota", "a quota is used up"),
        ("whole instead of range", "does not support range requests"),
    ],
)
def test_what_no_second_request_mends_is_said_at_once(
    server: S3Server, fault: Fault, message: str
) -> None:
    bucket = connect(server.url)
    assert bucket.read(KEY)
    server.count()
    server.fault = lambda _: fault
    with pytest.raises(ServerError, match=message):
        bucket.read(KEY)
    assert server.count() == {"GET": 1}
    if fault != "whole instead of range":
        with pytest.raises(ServerError, match=message):  # though a HEAD has no body to tell it
            bucket.size(KEY)
        with pytest.raises(ServerError, match=message.replace("read", "list")):
            bucket.names("")


@pytest.mark.usefixtures("server")
def test_a_bucket_that_is_not_there() -> None:
    absent = connect("s3://no-such-bucket/feats.zarr")
    asked = (lambda: absent.read("k"), lambda: absent.size("k"), lambda: absent.names(""))
    for ask in (*asked, lambda: absent.create("k", b"1")):
        with pytest.raises(ServerError, match="there is no such bucket; check its name"):
            ask()
    with pytest.raises(StoreError, match="there is no such bucket"):
        FeatureStore.open("s3://no-such-bucket/feats.zip")


@pytest.mark.parametrize("url", ["s3://", "s3:///x", "s3://bucket//x", "gs://bucket/x//y"])
def test_places_that_are_none(url: str) -> None:
    with pytest.raises(StoreError, match="names no place in a bucket"):
        open_folder(url)


def test_an_azure_container_needs_its_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(StoreError, match="AZURE_STORAGE_ACCOUNT_NAME"):
        connect("az://container/feats.zarr")
    assert isinstance(connect("abfs://container@mine.dfs.core.windows.net/f.zarr"), Bucket)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(StoreError, match=r"pip install '\.\[cloud\]'"):
        open_folder("s3://bucket/feats.zarr")


def test_an_object_is_created_once_and_replaced_by_whoever_saw_it(server: S3Server) -> None:
    bucket = connect(f"{server.url}/conditions")
    require_conditional_puts(bucket)
    assert bucket.objects_below("") == {}
    assert bucket.create("manifest", b"1")
    assert not bucket.create("manifest", b"2")
    found = bucket.read_object("manifest")
    assert found is not None
    content, seen = found
    assert (content, seen.num_bytes) == (b"1", 1)
    assert bucket.replace("manifest", b"22", seen)
    assert not bucket.replace("manifest", b"3", seen)
    assert not bucket.replace("absent", b"3", seen)
    bucket.create("folder/x", b"")
    assert {key: each.num_bytes for key, each in bucket.objects_below("").items()} == {
        "manifest": 2,
        "folder/x": 0,
    }
    assert list(bucket.objects_below("folder")) == ["folder/x"]
    bucket.delete(["manifest", "folder/x", "absent"])
    bucket.delete([])
    assert bucket.objects_below("") == {}


def test_an_object_that_stands_for_a_folder_is_no_file(server: S3Server) -> None:
    endpoint = server.environment["AWS_ENDPOINT_URL"]
    for folder in ("marked/", "marked/videos/"):  # as consoles and other programs make them
        target = f"{endpoint}/{server.url.removeprefix('s3://')}/{folder}"
        urllib.request.urlopen(urllib.request.Request(target, data=b"", method="PUT")).close()
    bucket = connect(f"{server.url}/marked")
    bucket.create("videos/a/zarr.json", b"1")
    assert bucket.names("") == ["videos/"]
    assert bucket.names("videos") == ["a/"]
    assert bucket.keys("") == ["videos/a/zarr.json"]


def test_verifying_lists_many_files_in_one_request(server: S3Server) -> None:
    report = verify_store(f"{server.url}/feats.zarr")
    assert not report.faults
    assert report.listed
    assert server.count()["LIST"] < 25


def test_a_put_whose_answer_is_lost_meets_itself(server: S3Server) -> None:
    bucket = connect(f"{server.url}/lost")
    server.fault = lambda _: "lost answer" if len(server.requests) < 2 else None
    assert not bucket.create("k", b"mine")
    assert server.count() == {"PUT": 2}
    assert bucket.read("k") == b"mine"


def test_a_condition_that_is_not_judged_is_no_refusal(server: S3Server) -> None:
    bucket = connect(f"{server.url}/conflict")
    server.fault = lambda _: "conflict" if len(server.requests) < 3 else None
    assert bucket.create("k", b"mine")
    assert server.count() == {"PUT": 3}


@pytest.mark.parametrize("fault", ["no conditions", "deaf to conditions"])
def test_a_service_without_conditions_is_refused_and_left_clean(
    server: S3Server, fault: Fault
) -> None:
    bucket = connect(f"{server.url}/{fault}")
    server.fault = lambda request: fault if request.is_conditional else None
    with pytest.raises(StoreError, match=r"conditions of a PUT|conditional PUTs"):
        require_conditional_puts(bucket)
    assert bucket.objects_below("") == {}
