"""A process that joins parts is killed by SIGKILL at random moments: the store loses nothing."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compacting import join_in_process
from features import columns, leftovers, random_tokens, small_query, small_spec, write_video
from s3_server import s3_server

from r2t.store import FeatureStore
from r2t.store.check.verify import verify_store
from r2t.store.sources import connect

NUM_RUNS = 12
MOST_ROWS = 12  # of a joined part, so that one run joins several
NUM_KILLS = 50


def fill(location: str) -> None:
    store = FeatureStore.create(location, small_spec())
    for run in range(NUM_RUNS):
        with store.writer() as writer:
            write_video(writer, f"v{run:02}", random_tokens(2, seed=run))
            queries = (small_query(f"q{run:02}-{n}", f"v{run:02}", seed=n) for n in range(2))
            writer.add_queries(*columns(*queries))


def content(location: str) -> list[Any]:
    store = FeatureStore.open(location)
    rows = [repr(vars(annotation)) for annotation in store.annotations()]
    tokens = [store.read_query(each.query_id).tokens.tobytes() for each in store.annotations()]
    return [store.video_rows(), rows, tokens, store.content_digest()]


def num_parts(location: str) -> int:
    return sum(FeatureStore.open(location).num_parts().values())


class Joining:
    """Processes that join the parts of a store, and how long one takes."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["compacting", "obstore.store"])
        self.seconds = 0.0

    def run(self, location: str, kill_after: float | None = None) -> bool:
        """Let one run to its end, or kill it; return whether it was done."""
        told, telling = self._context.Pipe(duplex=False)
        arguments = (location, MOST_ROWS, self._environment, telling)
        process = self._context.Process(target=join_in_process, args=arguments)
        process.start()
        telling.close()
        assert told.recv() == "begun"
        began = time.monotonic()
        if kill_after is None:
            process.join()
            self.seconds = time.monotonic() - began
        else:
            process.join(kill_after)
            process.kill()
            process.join()
        try:
            return told.recv() == "done"
        except EOFError:
            return False


def play(
    location: str,
    joining: Joining,
    renew: Callable[[], object],
    after_kill: Callable[[], object],
) -> Counter[str]:
    """Kill processes until the store is joined, and begin anew, for as many kills as wanted."""
    generator, counts = random.Random(0), Counter[str]()
    before, parts = content(location), num_parts(location)
    assert joining.run(location)
    joined = num_parts(location)
    assert joined < parts / 4
    renew()
    while counts["killed"] < NUM_KILLS:
        if joining.run(location, generator.uniform(0, joining.seconds)):
            counts["done in time"] += 1
            assert num_parts(location) == joined
            renew()
            continue
        counts["killed"] += 1
        after_kill()
        now = num_parts(location)
        counts["killed half-way"] += joined < now < parts
        assert content(location) == before
        faults = {fault.kind for fault in verify_store(location, quick=True).faults}
        assert faults <= {"manifest"}  # which follows the parts, and readers do without
        if counts["killed"] % 5 == 0:
            assert joining.run(location)
            assert content(location) == before
            assert num_parts(location) == joined
            assert verify_store(location).faults == ()
            counts["completed"] += 1
            renew()
    assert counts["killed half-way"]
    return counts


@pytest.mark.stress
def test_on_a_disk(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.zarr", tmp_path / "feats.zarr"
    fill(str(whole))

    def renew() -> None:
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(whole, path)

    renew()
    print(play(str(path), Joining({}), renew, lambda: None))
    assert not leftovers(path) or verify_store(path).dead_runs


@pytest.mark.stress
def test_in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        url = f"{server.url}/feats.zarr"
        fill(url)
        bucket, beside = connect(url), connect(f"{url}.partial")
        whole = {key: bucket.read(key) or b"" for key in bucket.keys("")}

        def renew() -> None:
            bucket.delete(bucket.keys(""))
            beside.delete(beside.keys(""))
            for key, value in whole.items():
                bucket.create(key, value)

        # As the message of the next command says.
        joining = Joining({**server.environment, "TMPDIR": str(tmp_path)})
        print(play(url, joining, renew, lambda: beside.delete(["change.json"])))
