"""What a Dask worker does with a video: decode, encode and write it, and say what became of it."""

from __future__ import annotations

import asyncio
import queue
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, cast

import torch
from distributed import Worker, get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from r2t.extract.clip import FrozenClip
from r2t.extract.config import ExtractConfig
from r2t.extract.run.stages import StageClock
from r2t.extract.run.writing import concerns_one_video
from r2t.extract.video import DecodePool, FrameBatch, VideoJob, decode_events
from r2t.store.errors import R2TError
from r2t.store.feature_store import FeatureStore
from r2t.store.schema import FeatureSpec, VideoSource
from r2t.store.video_writer import VideoWriter

PLUGIN = "r2t-extract"


@dataclass(frozen=True)
class Outcome:
    """What became of one video: frames and seconds of each stage, and why it failed if it did.

    `warnings` may be of another video that the same worker has read.
    """

    num_frames: int
    seconds: Mapping[str, float]
    failure: str | None
    warnings: tuple[str, ...]


def extract_one(job: VideoJob) -> Outcome:
    """Extract a video on the worker that this is called on."""
    return _extractor(get_worker()).extract(job)


def num_encoding_lanes(dask_worker: Worker) -> int:
    """Return how many windows of frames a worker encodes at a time."""
    return _extractor(dask_worker).num_lanes


def _extractor(worker: Worker) -> Extractor:
    return cast("Extractor", worker.plugins[PLUGIN])


class Extractor(WorkerPlugin):
    """What a worker keeps between videos: the model, its decoders, its place in the store."""

    def __init__(
        self,
        clip_arguments: Mapping[str, Any],
        config: ExtractConfig,
        location: str,
        spec: FeatureSpec,
        *,
        deaf: bool,
    ) -> None:
        self._deaf = deaf
        self._clip_arguments = clip_arguments
        self._config = config
        self._location = location
        self._spec = spec

    async def setup(self, worker: Any) -> None:
        """Load the model, in a thread so that the worker keeps answering meanwhile."""
        if self._deaf and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        await asyncio.to_thread(self._load, worker.state.nthreads)

    async def teardown(self, worker: Any) -> None:
        """Write the index rows gathered and end the decoders."""
        await asyncio.to_thread(self._stack.close)

    def _load(self, num_threads: int) -> None:
        self._clip = FrozenClip.load(**self._clip_arguments)
        store = FeatureStore.open(self._location)
        ours = self._clip.spec(self._spec.frame_rate, self._spec.dtype)
        store.spec.require_equal(
            ours,
            action=f"add to {self._location} from a worker",
            names=(self._location, "this worker"),
        )
        # As `encoding` has it: on a CPU each thread encodes on a core of its own.
        self.num_lanes = num_threads if self._clip.device.type == "cpu" else 1
        self._lane = threading.Semaphore(self.num_lanes)
        self._stack = ExitStack()
        self._warnings: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._writer = self._stack.enter_context(store.writer())
        self._pool = self._stack.enter_context(
            DecodePool(
                num_threads,
                size=self._clip.image_size,
                decoder=self._config.decoder,
                window=self._clip.batch_size,
                timeout_seconds=self._config.timeout_seconds,
                memory_bytes=self._config.memory_bytes,
                stream_choice=self._config.stream_choice,
                max_hours=self._config.max_hours,
                on_warning=self._warnings.put,
            )
        )

    def extract(self, job: VideoJob) -> Outcome:
        """Extract one video; raise what is wrong with more than this video."""
        clock = StageClock(dict.fromkeys(("decode", "encode", "write"), 1))
        failure = None
        try:
            self._extract(job, clock)
        except R2TError as error:
            if not concerns_one_video(error):
                raise
            failure = str(error)
        stages = clock.stages()
        return Outcome(
            stages[0].num_frames,
            {each.name: each.busy_seconds for each in stages},
            failure,
            tuple(self._heard()),
        )

    def _heard(self) -> Iterator[str]:
        with suppress(queue.Empty):
            while True:
                yield self._warnings.get_nowait()

    def _extract(self, job: VideoJob, clock: StageClock) -> None:
        with ExitStack() as stack:
            video: VideoWriter | None = None
            for event in decode_events(self._pool, job):
                if isinstance(event, R2TError):
                    raise event
                if isinstance(event, VideoSource):
                    assert video is not None, "a video has at least one frame"
                    video.source = event
                    continue
                video = self._add(video, stack, job, event, clock)
            with clock.timed("write"):
                stack.close()  # commits the video

    def _add(
        self,
        video: VideoWriter | None,
        stack: ExitStack,
        job: VideoJob,
        batch: FrameBatch,
        clock: StageClock,
    ) -> VideoWriter:
        clock.add("decode", len(batch), batch.decode_seconds)
        torch.set_num_threads(1)  # torch keeps it for each thread
        with self._lane, clock.timed("encode", len(batch)):
            tokens = self._clip.encode_frames(batch.pixels)
        with clock.timed("write", len(batch)):
            if video is None:
                video = stack.enter_context(
                    self._writer.video(
                        job.video_id,
                        num_frames=batch.num_video_frames,
                        duration_seconds=batch.duration_seconds,
                        frame_rate_fps=job.frame_rate_fps,
                    )
                )
            video.append(tokens)
        return video
