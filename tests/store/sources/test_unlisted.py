"""Hosts that serve files and list nothing; and how few requests opening takes."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from features import columns, pack, random_tokens, small_query, small_spec, write_video
from fsspec.implementations.memory import MemoryFileSystem
from servers import Plan, scripted_server

from r2t.store import FeatureStore
from r2t.store.change.merge import merge_stores
from r2t.store.change.repair import repair_store
from r2t.store.check.verify import verify_store
from r2t.store.errors import CorruptFeatureError
from r2t.store.sources import open_root

TOKENS = {"a dog": random_tokens(5, seed=1), "cat": random_tokens(7, seed=2)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of one index part and two parts of queries."""
    path = tmp_path_factory.mktemp("whole") / "feats.zarr"
    store = FeatureStore.create(path, small_spec())
    with store.writer() as writer:
        for video_id, tokens in TOKENS.items():
            write_video(writer, video_id, tokens)
        writer.add_queries(*columns(small_query("q1", "a dog")))
        writer.add_queries(*columns(small_query("q2", "cat", seed=1)))
    return path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "feats.zarr"))


@pytest.fixture
def served(path: Path) -> Generator[tuple[str, Plan]]:
    with scripted_server(path.parent) as (url, plan):
        yield f"{url}/feats.zarr", plan


def require_readable(location: str) -> None:
    store = FeatureStore.open(location)
    assert set(store.videos["video_id"]) == set(TOKENS)
    for video_id, tokens in TOKENS.items():
        assert np.array_equal(store.read_video(video_id).tokens, tokens)
    assert np.array_equal(store.read_query("q2").tokens, small_query("q2", seed=1)[1].tokens)
    given = small_query("q1", "a dog")[0].saliency
    found = store.annotations()[0].saliency
    assert given is not None
    assert found is not None
    assert np.array_equal(found.scores, given.scores)


def test_a_part_takes_few_requests_and_only_what_opening_needs(served: tuple[str, Plan]) -> None:
    url, plan = served
    store = FeatureStore.open(url)
    assert len(plan.requests) == len(set(plan.requests)) == 1 + 2 + 3 + 2 * 2
    assert sum("/parts/index/2" in each for each in plan.requests) == 3
    assert sum("/parts/queries/2" in each for each in plan.requests) == 2 * 2
    assert not any("tokens/" in each or "offsets/" in each for each in plan.requests)
    plan.requests.clear()
    store.annotations()
    assert len(plan.requests) == 2 * 4  # all but texts and tokens of two parts, once
    store.annotations()
    assert len(plan.requests) == 2 * 4
    plan.requests.clear()
    store.read_query("q1")
    assert len(plan.requests) == 1


@pytest.mark.parametrize("status", [403, 404, 405, 501, 200])
def test_a_host_that_lists_nothing(served: tuple[str, Plan], status: int) -> None:
    url, plan = served
    plan.listing = status
    require_readable(url)
    report = verify_store(url)
    assert (report.faults, report.listed) == ((), False)
    assert (report.num_videos, report.num_queries, report.num_parts) == (2, 2, 3)


def test_what_is_wrong_is_found_without_a_listing(
    served: tuple[str, Plan], path: Path, tmp_path: Path
) -> None:
    url, plan = served
    plan.listing = 403
    merge_stores([url], tmp_path / "merged.zarr")
    require_readable(str(tmp_path / "merged.zarr"))
    shutil.rmtree(path / "videos" / "cat")
    assert {(fault.kind, fault.place.split("/")[0]) for fault in verify_store(url).faults} == {
        ("video", "videos"),
        ("gone", "parts"),
    }
    shutil.rmtree(next((path / "parts" / "index").glob("2*")))
    with pytest.raises(CorruptFeatureError, match=r"parts/index/2.* not there.*Copy it again"):
        FeatureStore.open(url)


def test_a_part_that_is_gone_has_the_header_read_once_more(
    served: tuple[str, Plan], path: Path
) -> None:
    url, plan = served
    plan.listing = 404
    root = open_root(url)  # as it was before the parts of queries were joined
    store = FeatureStore.open(url)
    repair_store(path)
    assert len(FeatureStore(root).queries) == 2
    store.refresh()
    assert len(store.queries) == 2


def test_a_bucket_that_may_not_be_listed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("AccessDenied")

    fsspec.filesystem("memory").put(str(path), "/unlisted.zarr", recursive=True)
    try:
        require_readable("memory://unlisted.zarr")
        assert verify_store("memory://unlisted.zarr").listed
        monkeypatch.setattr(MemoryFileSystem, "ls", refuse)
        require_readable("memory://unlisted.zarr")
        report = verify_store("memory://unlisted.zarr")
        assert (report.faults, report.listed) == ((), False)
    finally:
        monkeypatch.undo()
        fsspec.filesystem("memory").rm("/unlisted.zarr", recursive=True)


def test_a_zip_lists_itself(path: Path, tmp_path: Path) -> None:
    packed = pack(path, tmp_path / "feats.zip")
    require_readable(str(packed))
    assert verify_store(packed).listed
