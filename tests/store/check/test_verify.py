"""`r2t store verify` finds and names whatever is wrong, and only that."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from damaged_stores import FAULTS, flip, make_store, part, shard
from features import pack, random_tokens, write_video
from typer.testing import CliRunner

from r2t.cli.commands.store.store import app
from r2t.store import FeatureStore
from r2t.store.check.verify import verify_store
from r2t.store.errors import StoreError
from r2t.store.format.layout import has_only_finite
from r2t.store.format.manifest import record_parts
from r2t.store.publish.local import LocalPublisher


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "feats.zarr"
    make_store(path)
    return path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    """A copy of the whole store, to damage."""
    return Path(shutil.copytree(whole, tmp_path / "feats.zarr"))


def test_a_whole_store_has_no_fault(whole: Path) -> None:
    seen: list[tuple[float, float]] = []
    report = verify_store(whole, on_video=lambda done, total: seen.append((done, total)))
    assert report.faults == ()
    assert (report.num_videos, report.num_queries, report.num_parts) == (2, 2, 2)
    assert report.num_bytes == FeatureStore.open(whole).num_bytes()
    assert seen == [(1, 2), (2, 2)]


def test_the_scales_of_an_int8_store_are_in_its_digest(tmp_path: Path) -> None:
    make_store(tmp_path / "feats.zarr", dtype="int8")
    assert verify_store(tmp_path / "feats.zarr").faults == ()
    flip(tmp_path / "feats.zarr" / "videos" / "dog" / "scale" / "c" / "0" / "0", 0)
    (fault,) = verify_store(tmp_path / "feats.zarr").faults
    assert str(fault).startswith("video: videos/dog: the stored bytes have the digest")


def test_a_zip_is_verified_where_it_lies(whole: Path, tmp_path: Path) -> None:
    packed = pack(whole, tmp_path / "feats.zip")
    report = verify_store(f"zip::{packed}")
    assert report.faults == ()
    assert (report.num_videos, report.num_queries) == (2, 2)


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_named(path: Path, name: str) -> None:
    damage, line = FAULTS[name]
    damage(path)
    found = [str(fault) for fault in verify_store(path).faults]
    assert any(re.match(line, each) for each in found), found


def test_the_command_lists_every_fault(path: Path) -> None:
    shard(path).unlink()
    (path / "notes.txt").touch()
    answer = CliRunner().invoke(app, ["verify", str(path)])
    assert answer.exit_code == 1
    assert [line.split(":")[0] for line in answer.stdout.splitlines()[:2]] == ["foreign", "video"]
    assert "1 video with correct digests" in answer.stdout
    assert answer.stdout.endswith("2 faults; `r2t store repair` repairs what can be repaired\n")
    assert answer.stderr == ""


def test_other_videos_of_a_damaged_store_are_sound(path: Path) -> None:
    shard(path).unlink()
    answer = CliRunner().invoke(app, ["verify", str(path), "--json"])
    found = json.loads(answer.stdout)
    assert answer.exit_code == 1
    assert found["num_videos"] == 1
    assert [fault["kind"] for fault in found["faults"]] == ["video"]
    assert found["faults"][0]["video_id"] == "-x y"


def test_a_query_in_two_parts_counts_once(path: Path) -> None:
    first = part(path, "queries")
    shutil.copytree(first, first.with_name("20990101T000000000000-0123456789ab"))
    record_parts(LocalPublisher(path, path.parent))
    report = verify_store(path)
    assert report.faults == ()
    assert (report.num_queries, report.num_parts) == (2, 3)


def test_quick_reads_no_tokens(path: Path) -> None:
    data = bytearray(shard(path).read_bytes())
    data[100] ^= 1
    shard(path).write_bytes(data)
    assert verify_store(path, quick=True).faults == ()
    shard(path).write_bytes(data[:-1])
    assert [fault.kind for fault in verify_store(path, quick=True).faults] == ["video"]


def test_what_a_live_run_does_is_no_fault(path: Path) -> None:
    store = FeatureStore.open(path)
    with store.writer() as writer:
        write_video(writer, "cat", random_tokens(3))
        report = verify_store(path)
        assert report.faults == ()
        assert len(report.live_runs) == 1
    assert verify_store(path).live_runs == ()
    assert verify_store(path).num_videos == 3


def test_where_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        verify_store(tmp_path / "none.zarr")


def test_finite_values_are_told_by_their_bits() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    assert has_only_finite(every[np.isfinite(every)])
    for value in every[~np.isfinite(every)]:
        assert not has_only_finite(np.array([[1, value]], np.float16))
