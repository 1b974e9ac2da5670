"""Shares of a run: every video and query in exactly one, whoever counts them and from where."""

from __future__ import annotations

import time
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from r2t.extract.pending import Quarantine
from r2t.extract.sharding import Shard, read_shard, shard_number, shard_sizes, take_shard
from r2t.store.annotations import Annotation
from r2t.store.errors import AnnotationError, ConfigError


def annotation(query_id: str, video_id: str, end: float = 2.0) -> Annotation:
    return Annotation(query_id, video_id, "a grey wall", np.array([[0.0, end]]))


@pytest.mark.parametrize("count", [1, 2, 7, 16, 100])
def test_all_shards_together_are_the_whole_run(count: int) -> None:
    videos = [Path("videos", f"{number}", f"clip_{number}.mp4") for number in range(200)]
    rows = [annotation(f"q{number}", f"clip_{number}.mp4") for number in range(0, 300, 2)]
    shards = [take_shard(Shard(number + 1, count), videos, rows) for number in range(count)]
    assert Counter(path for paths, _ in shards for path in paths) == Counter(videos)
    assert Counter(row.query_id for _, some in shards for row in some) == Counter(
        row.query_id for row in rows
    )
    for paths, some in shards:
        stems = {path.stem for path in paths}
        assert all(row.video_id.removesuffix(".mp4") in stems for row in some[:100] if _there(row))


def _there(row: Annotation) -> bool:
    return int(row.query_id[1:]) < 200


def test_the_rule_stays_as_documented() -> None:
    # printf %s dog | sha256sum → cd6357efdd966de8…; another rule would split resumed runs anew
    assert shard_number("dog", 8) == 0xCD6357EFDD966DE8 % 8 + 1
    sizes = shard_sizes((f"video_{number}" for number in range(10_148)), 8)
    assert sum(sizes) == 10_148
    assert max(sizes) < 1.1 * 10_148 / 8


def test_all_names_of_a_video_are_in_one_shard() -> None:
    composed = unicodedata.normalize("NFC", "Café")
    for names in (
        (composed, unicodedata.normalize("NFD", composed), f"{composed}.mp4"),
        ("s30-d52", "s30-d52-cam-002", "s30-d52.avi"),
    ):
        assert len({shard_number(name, 1000) for name in names}) == 1
    assert Shard(1, 1).holds("not \udce9 UTF-8")


def test_ids_that_clash_between_shards_stop_every_shard() -> None:
    rows = [annotation("q1", "dog"), annotation("q1", "cat")]
    assert shard_number("dog", 2) != shard_number("cat", 2)
    for number in (1, 2):
        with pytest.raises(AnnotationError, match="two different annotations have the id 'q1'"):
            take_shard(Shard(number, 2), [Path("dog.mp4"), Path("cat.mp4")], rows)


def slurm(**values: object) -> dict[str, str]:
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("text", "environment", "shard"),
    [
        ("3/8", {}, Shard(3, 8)),
        (" 1/1 ", slurm(ID=5, COUNT=8, MIN=1, MAX=8), Shard(1, 1)),
        ("auto", slurm(ID=0, COUNT=8, MIN=0, MAX=7, STEP=1), Shard(1, 8)),
        ("auto", slurm(ID=8, COUNT=8, MIN=1, MAX=8), Shard(8, 8)),
        ("auto/4", slurm(ID=14, COUNT=4, MIN=10, MAX=16, STEP=2), Shard(3, 4)),
        ("auto/8", {"JOB_COMPLETION_INDEX": "0"}, Shard(1, 8)),
        ("auto/8", {"JOB_COMPLETION_INDEX": "7"}, Shard(8, 8)),
    ],
)
def test_where_a_shard_comes_from(text: str, environment: dict[str, str], shard: Shard) -> None:
    assert read_shard(text, environment) == shard


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("0/8", {}, "shards are counted from 1: auto/8 reads a counter that starts at 0"),
        ("9/8", {}, "give i/n, such as 1/8 to 8/8"),
        ("1/0", {}, "give i/n"),
        ("3", {}, "give i/n"),
        ("-1/8", {}, "give i/n"),
        ("1/8/2", {}, "give i/n"),
        ("auto", {}, "this is no Slurm array"),
        ("auto", {"JOB_COMPLETION_INDEX": "0"}, "auto/8 .in a Kubernetes job"),
        ("auto/8", {}, "no Slurm array and no indexed Kubernetes job"),
        ("auto/8", {"JOB_COMPLETION_INDEX": "8"}, "more than 8 completions"),
        # tasks 3 and 7 of an array submitted again: their shards would not be those of before
        ("auto", slurm(ID=7, COUNT=2, MIN=3, MAX=7, STEP=1), "no whole array: submit all of it"),
        ("auto/8", slurm(ID=3, COUNT=2, MIN=3, MAX=4), "no whole array of 8"),
    ],
)
def test_what_is_no_shard(text: str, environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_shard(text, environment)


def test_shards_that_end_together_lose_no_line_of_the_quarantine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(tmp_path / "feats.zarr")
    read = Quarantine.read

    def slowly(self: Quarantine) -> dict[str, str]:
        found = read(self)
        time.sleep(0.01)  # all of them read before the first has written, if they could
        return found

    monkeypatch.setattr(Quarantine, "read", slowly)
    with ThreadPoolExecutor(8) as shards:
        names = [f"video{number}" for number in range(8)]
        for name in names:
            shards.submit(Quarantine(store).update, failed={name: "broken"}, resolved=set())
    assert sorted(Quarantine(store).read()) == names
