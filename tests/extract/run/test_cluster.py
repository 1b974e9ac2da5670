"""The same extraction on a cluster of real processes, one of which is killed."""

from __future__ import annotations

import asyncio
import os
import queue
import shutil
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import dask.config
import numpy as np
import pytest
import torch
from barcode_videos import Recipe, write_video
from distributed import Client, Future, LocalCluster
from distributed.comm.core import CommClosedError
from features import small_spec

from r2t.extract.clip.clip import FrozenClip
from r2t.extract.config import ExtractConfig
from r2t.extract.pipeline import ExtractReport, extract_videos
from r2t.extract.run import cluster as cluster_module, cluster_run
from r2t.extract.run.cluster import Cluster, open_cluster
from r2t.extract.run.cluster_run import ClusterRun
from r2t.extract.run.cluster_worker import Extractor, Outcome
from r2t.extract.run.local_cluster import visible_devices
from r2t.extract.run.one_video import VideoJob, in_turns
from r2t.extract.run.progress import ExtractProgress, Tally
from r2t.store.errors import ConfigError, VideoWarning
from r2t.store.feature_store import FeatureStore


def test_local_workers_take_the_gpus_in_turn() -> None:
    assert visible_devices(3, 0) == [None, None, None]
    assert visible_devices(3, 2) == ["0", "1", "0"]
    assert visible_devices(2, 8) == ["0", "1"]
    assert visible_devices(3, 4, already="5,7") == ["5", "7", "5"]


@pytest.mark.parametrize(
    ("device", "already", "visible", "theirs"),
    [
        (None, "", ["0", "1"], None),
        ("cuda", "", ["0", "1"], "cuda"),
        ("cuda:1", "", ["1", "1"], "cuda"),
        (torch.device("cuda", 1), "5,7", ["7", "7"], "cuda"),
        ("cpu", "", ["0", "1"], "cpu"),
    ],
)
def test_local_workers_take_the_gpu_that_was_asked_for(
    device: str | torch.device | None,
    already: str,
    visible: list[str],
    theirs: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Sequence[str | None]] = []

    @contextmanager
    def local(visible: Sequence[str | None], _: int) -> Generator[object]:
        started.append(visible)
        yield object()

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", already)
    monkeypatch.setattr(cluster_module, "local_cluster", local)
    monkeypatch.setattr(cluster_module, "_client", nullcontext)
    with open_cluster("local:2", {"name": "r2t-demo", "device": device}) as cluster:
        assert cluster.clip_arguments == {"name": "r2t-demo", "device": theirs}
    assert started == [visible]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("local:", "give local:N"),
        ("local:0", "give local:N"),
        ("localhost", "tcp://HOST:PORT"),
        ("tcp://localhost", "tcp://HOST:PORT"),
        ("tcp://localhost:99999", "cannot be reached"),
        ("127.0.0.1:9", "cannot be reached"),
        ("tcp://127.0.0.1:9", "start them with `dask scheduler`"),
    ],
)
def test_a_cluster_that_is_not_there(
    address: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "_CONNECT_SECONDS", 0.5)
    with pytest.raises(ConfigError, match=message), open_cluster(address, {}):
        pytest.fail("nothing to connect to")


class LostScheduler:
    """A client whose scheduler goes away as soon as anything is asked."""

    status = "closed"

    def nthreads(self) -> dict[str, int]:
        if self.status == "closed":
            raise CommClosedError("in <TCP (closed)>: Stream is closed")
        return {"tcp://worker": 1}

    def register_plugin(self, *_: object, **__: object) -> None:
        raise CommClosedError("in <TCP (closed)>: Stream is closed")

    def gather(self, _: object) -> None:
        raise CommClosedError("in <TCP (closed) ConnectionPool.gather>: Stream is closed")

    def cancel(self, _: object) -> None:
        raise RuntimeError("the client is closed")


class LostResult(Future):
    """A task that was done, whose outcome cannot be fetched any more."""

    @property
    def status(self) -> Literal["finished"]:
        return "finished"

    def __init__(self) -> None:
        self.key = ("extract", "dog")

    def __del__(self) -> None:
        pass


class RedoneResult(LostResult):
    """A task whose outcome went with its worker, and which is done again."""

    ways: tuple[str, ...] = ("lost", "pending", "finished")

    @property
    def status(self) -> Any:
        way, *rest = self.ways
        self.ways = tuple(rest) or (way,)
        return way

    def release(self) -> None:
        pass


class Results:
    """A client that has the outcome of every task by now."""

    def gather(self, futures: Sequence[Future]) -> list[Outcome]:
        return [Outcome(3, {"decode": 1.0}, None, None, ()) for _ in futures]


def test_an_outcome_that_went_with_its_worker_is_waited_for(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "feats.zarr", small_spec())
    tally = Tally()
    run = ClusterRun(Cluster(Results(), {}), ExtractConfig(frame_rate=1.0), store, tally)
    finished: queue.SimpleQueue[Future] = queue.SimpleQueue()
    redone, other = RedoneResult(), RedoneResult()
    redone.ways, other.ways, other.key = ("lost", "pending", "finished"), ("finished",), ("", "cat")
    for name, future in (("dog", redone), ("cat", other)):
        run._submitted[name] = VideoJob(name, tmp_path / name, 1.0), future
    run._take([redone])
    assert (tally.done, tally.failed) == ([], {})
    finished.put(other)
    run._take(run._next(finished))  # meanwhile others go on
    assert tally.done == ["cat"]
    run._take(run._next(finished))
    assert (tally.done, tally.num_frames) == (["cat", "dog"], 6)


def test_workers_are_told_places_that_mean_the_same_everywhere(tmp_path: Path) -> None:
    assert cluster_run._everywhere("s3://bucket/feats.zarr") == "s3://bucket/feats.zarr"
    assert cluster_run._everywhere("feats.zarr") == str(Path.cwd() / "feats.zarr")
    assert cluster_run._everywhere(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize("lacking", ["clip", "store", "videos"])
def test_a_worker_says_what_it_lacks_that_the_client_has(tmp_path: Path, lacking: str) -> None:
    """As where no disk is common: not one video of those is set aside."""
    store = FeatureStore.create(tmp_path / "feats.zarr", small_spec())
    clip = {"name": str(tmp_path / "clip")}
    location = str(tmp_path / "absent.zarr") if lacking == "store" else store.location
    worker = Extractor(clip, ExtractConfig(), location, store.spec, ignore_interrupts=False)
    address = SimpleNamespace(address="tcp://b:1", state=SimpleNamespace(nthreads=1))
    (tmp_path / "videos").mkdir()  # as where a disk is to be mounted
    with pytest.MonkeyPatch.context() as patch:
        if lacking != "clip":
            model = SimpleNamespace(spec=lambda *_: store.spec)
            patch.setattr(FrozenClip, "load", lambda **_: model)
        if lacking == "videos":
            patch.setattr(worker, "_load", lambda _: None)
        message = {
            "clip": r"worker tcp://b:1 cannot begin: unknown model .*clip.* every worker has",
            "store": r"worker tcp://b:1 cannot begin: .*absent\.zarr.* every worker has",
            "videos": r"worker tcp://b:1 does not find .*dog\.mp4, which the client has",
        }[lacking]

        def begin_and_extract() -> None:
            asyncio.run(worker.setup(address))
            worker.extract(VideoJob("dog", tmp_path / "videos" / "dog.mp4", 1.0))

        with pytest.raises(ConfigError, match=message):
            begin_and_extract()


def test_a_video_that_only_a_worker_lacks_ends_the_run(tmp_path: Path) -> None:
    """One that is gone here, too, has failed."""

    class Lacking(RedoneResult):
        ways = ("error",)

        def exception(self) -> ConfigError:  # type: ignore[override]
            return ConfigError("the worker b does not find it")

    store = FeatureStore.create(tmp_path / "feats.zarr", small_spec())
    tally = Tally()
    run = ClusterRun(Cluster(Results(), {}), ExtractConfig(frame_rate=1.0), store, tally)
    for name in ("dog", "cat"):
        job = VideoJob(name, tmp_path / f"{name}.mp4", 1.0)
        run._turns = in_turns([job])
        run._turns.take()
        future = Lacking()
        future.key = ("extract", name)
        run._submitted[name] = job, future
        if name == "dog":
            run._take([future])
            assert tally.failed == {"dog": f"{job.place}: there is no such file any more"}
            continue
        (tmp_path / "cat.mp4").touch()
        with pytest.raises(ConfigError, match="the worker b does not find it"):
            run._take([future])
        assert tally.failed.keys() == {"dog"}


def test_few_tasks_are_with_the_scheduler_at_a_time(tmp_path: Path) -> None:
    """Also of many videos, and more when there are more threads."""

    class Scheduler(Results):
        num_threads = 2

        def nthreads(self) -> dict[str, int]:
            return {"tcp://worker": self.num_threads}

        def submit(self, _: object, __: object, *, key: tuple[str, str], pure: bool) -> Future:
            future = RedoneResult()
            future.key, future.ways = key, ("finished",)
            future.add_done_callback = lambda call: call(future)  # type: ignore[method-assign]
            return future

    store = FeatureStore.create(tmp_path / "feats.zarr", small_spec())
    scheduler, tally = Scheduler(), Tally()
    run = ClusterRun(Cluster(scheduler, {}), ExtractConfig(frame_rate=1.0), store, tally)
    run._turns = in_turns(VideoJob(f"v{number}", Path("none"), 1.0) for number in range(10_000))
    finished: queue.SimpleQueue[Future] = queue.SimpleQueue()
    assert run._submit(finished)
    assert finished.qsize() == 64
    run._take(run._next(finished))
    assert len(tally.done) == 64
    scheduler.num_threads, run._looked_at = 100, 0.0
    assert run._submit(finished)
    assert finished.qsize() == 400
    run._take(run._next(finished))
    run._turns = in_turns(())
    assert not run._submit(finished)


@pytest.mark.parametrize("step", ["register", "wait", "take"])
def test_a_scheduler_that_is_lost_is_one_error(step: str, tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "feats.zarr", small_spec())
    client = LostScheduler()
    client.status = "running"
    run = ClusterRun(Cluster(client, {}), ExtractConfig(frame_rate=1.0), store, Tally())
    client.status = "closed"
    with store.writer() as writer:
        steps = {
            "register": lambda: run.extract_videos(
                writer, [VideoJob("dog", tmp_path / "dog.mp4", 1.0)]
            ),
            "wait": lambda: run._next(queue.SimpleQueue()),
            "take": lambda: run._take([LostResult()]),
        }
        with pytest.raises(ConfigError, match="scheduler was lost"):
            steps[step]()


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    """Eight videos of five seconds and an empty file."""
    good = write_video(tmp_path / "good", Recipe())
    videos = [tmp_path / "videos" / f"v{number}.mp4" for number in range(8)]
    videos[0].parent.mkdir()
    for path in videos:
        os.link(good, path)
    videos.append(tmp_path / "videos" / "empty.mp4")
    videos[-1].touch()
    return videos


def require_reported(report: ExtractReport) -> None:
    """Check that eight videos are reported done, and the empty one set aside."""
    assert sorted(report.done) == [f"v{number}" for number in range(8)]
    assert list(report.failed) == ["empty"]
    assert "is empty" in Path(report.quarantine_path).read_text()
    assert report.num_frames == 8 * 5
    counts = {stage.name: stage.num_frames for stage in report.stages}
    assert counts == {"decode": 40, "encode": 40, "write": 40}


def require_stored(clip: FrozenClip, location: str, good: Path) -> None:
    """Check that eight videos are stored and indexed, whole and nothing else."""
    ids = [f"v{number}" for number in range(8)]
    expected = clip.encode_video(good, 1.0).tokens
    store = FeatureStore.open(location)
    assert sorted(store.videos["video_id"]) == ids
    for video_id in ids:
        tokens = store.read_video(video_id).tokens
        np.testing.assert_allclose(tokens, expected, rtol=2e-3, atol=2e-3)
    assert not list(Path(location).parent.glob("*.partial"))


def test_workers_fill_one_store(clip_folder: Path, tmp_path: Path, videos: list[Path]) -> None:
    arguments = {"name": str(clip_folder), "layers": 2, "device": "cpu"}
    clip = FrozenClip.load(**arguments)
    store = FeatureStore.create(tmp_path / "feats.zarr", clip.spec(1.0), embedding=clip.embedding)
    seen: list[ExtractProgress] = []
    config = ExtractConfig(frame_rate=1.0)
    jumping = tuple(seconds + (20 if seconds >= 2 else 0) for seconds in Recipe().times)
    videos[7] = write_video(videos[7], Recipe(".ts", times=jumping))
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as threads,
        Client(threads, set_as_default=False) as client,
    ):
        cluster = Cluster(client, arguments)
        assert cluster.num_workers == 2
        assert cluster.dashboard is None or cluster.dashboard.startswith("http")
        with pytest.warns(VideoWarning, match=r"v7\.ts: its clock starts anew at 2\.0"):
            report = extract_videos(config, clip, store, videos, [], seen.append, cluster=cluster)
    require_reported(report)
    require_stored(clip, store.location, videos[0])
    assert [progress.num_finished for progress in seen] == list(range(1, 10))
    assert [progress.failed[0] for progress in seen if progress.failed] == ["empty"]


@pytest.mark.stress
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize("allowed_deaths", [3, 0])
def test_a_killed_worker_costs_no_video_that_another_may_have(
    clip_folder: Path, tmp_path: Path, videos: list[Path], allowed_deaths: int
) -> None:
    arguments = {"name": str(clip_folder), "layers": 2, "device": "cpu"}
    clip = FrozenClip.load(**arguments)
    store = FeatureStore.create(tmp_path / "feats.zarr", clip.spec(1.0), embedding=clip.embedding)
    killed: list[int] = []
    config = ExtractConfig(frame_rate=1.0)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": allowed_deaths}),
        open_cluster("local:2", arguments) as cluster,
    ):

        def kill_one(progress: ExtractProgress) -> None:
            busy = [who for who, tasks in cluster.client.processing().items() if tasks]
            if not killed and busy:
                [pid] = cluster.client.run(os.getpid, workers=busy[:1]).values()
                killed.append(pid)
                os.kill(pid, signal.SIGKILL)

        report = extract_videos(config, clip, store, videos, [], kill_one, cluster=cluster)
        assert killed
        # What the killed worker left, unless the next run on this machine has cleared it.
        shutil.rmtree(tmp_path / "feats.zarr.partial", ignore_errors=True)
        if not allowed_deaths:
            lost = {name: why for name, why in report.failed.items() if name != "empty"}
            assert set(lost.values()) == {"the worker died while extracting it"}
            num_died = sum("the worker died" in why for why in report.failed.values())
            assert Path(report.quarantine_path).read_text().count("the worker died") == num_died
            assert {*report.done, *lost} == {f"v{number}" for number in range(8)}
            config = replace(config, retry_failed=True)
            extract_videos(config, clip, store, videos, [], cluster=cluster)
    require_stored(clip, store.location, videos[0])
    if allowed_deaths:
        require_reported(report)
