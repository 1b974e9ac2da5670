"""A cluster whose machines share a bucket and nothing else, and whose processes die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from barcode_videos import Recipe, write_video
from s3_server import S3Server, s3_server
from servers import free_port

from r2t.store.check.verify import verify_store
from r2t.store.feature_store import FeatureStore
from r2t.store.sources import connect

NUM_VIDEOS = 8

pytestmark = pytest.mark.stress


@dataclass
class Machines:
    """Processes that have a bucket in common, each group a folder of its own."""

    server: S3Server
    folder: Path
    address: str
    command: list[str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])

    def start(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        """Start a program in the folder of this name, which is all it may write to."""
        home = self.folder / name
        home.mkdir(exist_ok=True)
        environment = {**os.environ, **self.server.environment, "TMPDIR": str(home)}
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(words, env=environment, cwd=home, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        port = self.address.rpartition(":")[2]
        module = "distributed.cli.dask_scheduler"
        options = ("--host", "127.0.0.1", "--port", port, "--no-dashboard")
        return self.start("scheduler", sys.executable, "-m", module, *options)

    def start_worker(self, name: str) -> subprocess.Popen[bytes]:
        module = "distributed.cli.dask_worker"
        options = ("--nworkers", "1", "--nthreads", "2", "--no-nanny", "--no-dashboard")
        options += ("--death-timeout", "60", "--local-directory", ".")
        return self.start(name, sys.executable, "-m", module, self.address, *options)

    def start_client(self) -> subprocess.Popen[bytes]:
        return self.start("client", *self.command)

    def num_stored(self) -> int:
        store = connect(f"{self.server.url}/feats.zarr")
        keys = [key.split("/") for key in store.objects_below("videos")]
        return sum(len(key) == 3 and key[2] == "zarr.json" for key in keys)


@pytest.fixture
def machines(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Generator[Machines]:
    video = write_video(tmp_path / "good", Recipe()).read_bytes()
    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        bucket = connect(f"{server.url}/videos")
        for number in range(NUM_VIDEOS):
            bucket.create(f"v{number}.mp4", video)
        bucket.create("page.mp4", b"<html>no video</html>")
        address = f"tcp://127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "r2t.cli", "extract", "--videos", bucket.location]
        command += ["--store", f"{server.url}/feats.zarr", "--model", str(clip_folder)]
        command += ["--layers", "2", "--fps", "1", "--dask", address, "--scratch", "scratch"]
        found = Machines(server, tmp_path, address, command)
        found.start_scheduler()
        try:
            yield found
        finally:
            for process in found.processes:
                process.kill()
                process.wait()


def wait_until(happened: Callable[[], bool], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def require_whole(machines: Machines, status: int, dead: tuple[str, ...] = ()) -> None:
    """Check that all videos are stored and verified, and that no machine but dead ones has any."""
    log = (machines.folder / "client.log").read_text()
    assert status == 1, log  # of one a page lies there
    assert "failed: page: " in log
    location = f"{machines.server.url}/feats.zarr"
    store = FeatureStore.open(location)
    assert sorted(store.videos["video_id"]) == [f"v{number}" for number in range(NUM_VIDEOS)]
    assert {store.read_video(f"v{number}").num_frames for number in range(NUM_VIDEOS)} == {5}
    assert verify_store(location).faults == ()
    for name in {"client", "east", "west"} - {*dead}:
        kept = [path for path in (machines.folder / name).rglob("*.mp4") if path.is_file()]
        assert kept == []


def test_two_groups_of_workers_with_folders_of_their_own(machines: Machines) -> None:
    machines.start_worker("east")
    machines.start_worker("west")
    require_whole(machines, machines.start_client().wait(600))
    for name in ("east", "west"):
        assert (machines.folder / name / "scratch").is_dir()  # both have fetched
    assert not (machines.folder / "client" / "scratch").exists()


@pytest.mark.parametrize("victim", ["worker", "scheduler", "client"])
def test_whoever_dies_the_same_command_goes_on(machines: Machines, victim: str) -> None:
    scheduler = machines.processes[0]
    east = machines.start_worker("east")
    machines.start_worker("west")
    client = machines.start_client()
    wait_until(lambda: machines.num_stored() > 0 or client.poll() is not None)
    assert client.poll() is None, (machines.folder / "client.log").read_text()
    dead = {"worker": east, "scheduler": scheduler, "client": client}[victim]
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    if victim == "worker":
        require_whole(machines, client.wait(600), dead=("east",))
        return
    if victim == "scheduler":
        assert client.wait(600) == 2
        assert (
            "connection to the cluster's scheduler was lost"
            in (machines.folder / "client.log").read_text()
        )
        machines.start_scheduler()
        for name in ("east", "west"):
            machines.start_worker(name)
    require_whole(machines, machines.start_client().wait(600))
