"""What does scheduling cost when there are very many videos and workers, some of which get lost?

Runs `r2t extract --dask`'s own scheduling (`ClusterRun`, its tasks, its plugin) against a real
scheduler whose workers are threads of another process and stand in for decoding, CLIP and writing:
they do nothing, or with `--write` commit a video of one small frame. For each number of workers:
tasks a second, processor seconds of the client for 1,000 tasks, by how much the client and the
process of scheduler and workers grew, how often a task was done twice, and what lies in the store.
Clocks say little on a machine that others use; processor seconds and bytes hold there, too.

    python benchmarks/scale.py --tasks 100000 --workers 2 8 64 --lost 20
    python benchmarks/scale.py --tasks 300 --workers 2 --lost 0 --write --bucket

With `--bucket` the store lies in one, of a stand-in service on this machine (moto, from the test
extra), and requests are counted by kind; that service is slow, so its times say nothing.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dask.config
import numpy as np
from distributed import Client, LocalCluster, Worker

from r2t.extract.config import ExtractConfig
from r2t.extract.run import cluster_run
from r2t.extract.run.cluster import Cluster
from r2t.extract.run.cluster_run import ClusterRun
from r2t.extract.run.cluster_worker import Extractor, Outcome
from r2t.extract.run.one_video import VideoJob
from r2t.extract.run.progress import ExtractProgress, Tally
from r2t.store.check import verify_store
from r2t.store.feature_store import FeatureStore
from r2t.store.features import VideoSource
from r2t.store.schema import FeatureSpec

THREADS = 4  # of a worker
SPEC = FeatureSpec(
    model="stand-in",
    weights_sha256="0" * 64,
    vision_layers=(12,),
    text_layers=(12,),
    frame_rate=0.5,
    num_tokens=1,
    vision_width=8,
    text_width=8,
    image_size=32,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)


# One process stands in for many machines: it may not answer for a while, and does no more than
# it has to.
PATIENCE = {
    "distributed.comm.timeouts.tcp": "600s",
    "distributed.comm.timeouts.connect": "600s",
    "distributed.scheduler.worker-ttl": None,
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "60s",
    "distributed.scheduler.active-memory-manager.start": False,
}


class StandIn(Extractor):
    """A worker that does nothing for a video, or writes one small frame."""

    write = False

    def _load(self, num_threads: int) -> None:
        self.num_lanes = num_threads
        self._stack = ExitStack()
        if self.write:
            store = FeatureStore.open(self._location)
            self._writer = self._stack.enter_context(store.writer())

    def extract(self, job: VideoJob) -> Outcome:
        """Say that a video was extracted."""
        if self.write:
            with self._writer.video(
                job.video_id, num_frames=1, duration_seconds=2.0, frame_rate_fps=0.5
            ) as video:
                video.append(np.zeros((1, 1, 1, 8), np.float16))
                video.source = VideoSource(
                    name="none", num_bytes=1, sha256="0" * 64, decoder="none"
                )
        return Outcome(1, {"decode": 0.0, "encode": 0.0, "write": 0.0}, None, None, ())


class WritingStandIn(StandIn):
    """A worker that writes one small frame."""

    write = True


@dataclass(frozen=True)
class Result:
    """What one run came to."""

    seconds: float
    client_cpu_seconds: float
    client_bytes: int
    server_bytes: int
    num_done: int
    num_stored: int
    most_waiting: int
    counts: Mapping[str, int]


def main() -> None:
    """Measure, and print a row for each number of workers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 8, 64])
    parser.add_argument("--lost", type=int, default=10, help="workers that get lost in a run")
    parser.add_argument("--write", action="store_true", help="commit a small video for each task")
    parser.add_argument("--bucket", action="store_true", help="write to a bucket, count requests")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    dask.config.set(PATIENCE)
    if options.serve:
        serve(options.serve)
        return
    print(f"{options.tasks:,} tasks, {options.lost} workers lost, write={options.write}")
    print(
        f"{'workers':>7} {'tasks/s':>8} {'client CPU ms/task':>18} {'client grew MB':>14} "
        f"{'rest grew MB':>12} {'most at a time':>14} {'done':>9} {'stored':>9}  files or requests"
    )
    for num_workers in options.workers:
        with place(in_bucket=options.bucket) as home:
            found = measure(options.tasks, num_workers, options.lost, home, write=options.write)
        counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(found.counts.items()))
        pace = options.tasks / found.seconds
        work = 1e3 * found.client_cpu_seconds / options.tasks
        grown = f"{found.client_bytes / 1e6:14.1f} {found.server_bytes / 1e6:12.1f}"
        done = f"{found.most_waiting:14,} {found.num_done:9,} {found.num_stored:9,}"
        print(f"{num_workers:7} {pace:8.0f} {work:18.2f} {grown} {done}  {counts}", flush=True)


@dataclass(frozen=True)
class Home:
    """Where a store is to be made, what its workers need to know, and what was done there."""

    location: str
    environment: dict[str, str]
    counts: Callable[[], dict[str, int]]


@contextmanager
def place(*, in_bucket: bool) -> Generator[Home]:
    """Make a folder, whose files are counted, or a bucket, whose requests are."""
    if not in_bucket:
        with tempfile.TemporaryDirectory() as folder:
            yield Home(
                f"{folder}/feats.zarr",
                {},
                lambda: Counter(
                    kind for each in Path(folder).rglob("*") if (kind := kind_of(each))
                ),
            )
        return
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from s3_server import s3_server

    with s3_server() as server, patch.dict(os.environ, server.environment):
        yield Home(f"{server.url}/feats.zarr", server.environment, server.count)


def measure(num_tasks: int, num_workers: int, num_lost: int, home: Home, *, write: bool) -> Result:
    """Run once, against a server of its own."""
    lose_at = {num_tasks * (number + 1) // (num_lost + 1) for number in range(num_lost)}
    jobs = [VideoJob(f"video-{number:08}", Path("none.mp4"), 0.5) for number in range(num_tasks)]
    most_waiting = 0
    command = [sys.executable, __file__, "--serve", str(num_workers)]
    with (
        subprocess.Popen(
            command,
            env={**os.environ, **home.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # distributed tells at length of each worker that is lost
            text=True,
        ) as server,
    ):
        assert server.stdin is not None
        assert server.stdout is not None
        store = FeatureStore.create(home.location, SPEC)
        with Client(server.stdout.readline().strip(), set_as_default=False) as client:

            def on_progress(progress: ExtractProgress) -> None:
                nonlocal most_waiting
                most_waiting = max(most_waiting, len(client.futures))
                if progress.num_finished in lose_at:
                    print("lose", file=server.stdin, flush=True)

            tally = Tally(num_tasks, on_progress)
            run = ClusterRun(Cluster(client, {}), ExtractConfig(), store, tally)
            stand_in = WritingStandIn if write else StandIn
            before, server_before = resident_bytes(), resident_bytes(server.pid)
            work, began = cpu_seconds(), time.perf_counter()
            with store.writer() as writer, patch.object(cluster_run, "Extractor", stand_in):
                if not write:
                    writer = NoIndex()
                run.extract_videos(writer, jobs)  # type: ignore[arg-type]
            seconds, work = time.perf_counter() - began, cpu_seconds() - work
            grown = resident_bytes() - before, resident_bytes(server.pid) - server_before
        server.communicate("end\n")
    counts = home.counts()
    num_stored = num_sound(home.location) if write else 0
    return Result(seconds, work, *grown, len(tally.done), num_stored, most_waiting, counts)


def num_sound(location: str) -> int:
    """Return how many videos a store has; complain if anything is wrong with one."""
    report = verify_store(location)
    assert report.faults == (), report.faults
    return report.num_videos


class NoIndex:
    """Takes the place of a writer where nothing was written."""

    def index(self, video_id: str) -> None:
        """Do nothing."""


def kind_of(path: Path) -> str:
    """Say what a file of a store is; nothing of a folder."""
    if path.is_dir():
        return ""
    kind = "of parts" if "parts" in path.parts else "of videos"
    return f"{'zarr.json' if path.name == 'zarr.json' else 'other files'} {kind}"


def serve(num_workers: int) -> None:
    """Run a scheduler and workers until told to end; lose a worker, and get another, when told."""
    make_cluster: Any = LocalCluster  # typed as if used in a coroutine
    with make_cluster(
        n_workers=0, processes=False, dashboard_address=None, protocol="tcp", host="127.0.0.1"
    ) as cluster:
        workers: list[Any] = []

        async def start() -> None:
            address = cluster.scheduler_address
            workers.append(await Worker(address, nthreads=THREADS, heartbeat_interval="60s"))

        for _ in range(num_workers):
            cluster.sync(start)
        print(cluster.scheduler_address, flush=True)
        for line in sys.stdin:
            if line.strip() == "end":
                os._exit(0)  # nothing of this is to be kept
            cluster.loop.add_callback(workers.pop(0).batched_stream.comm.abort)
            cluster.sync(start)


def resident_bytes(process: int | str = "self") -> int:
    """Return the memory that a process has now."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def cpu_seconds() -> float:
    """Return the processor seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
