"""What a Dask worker does with a video: decode, encode and write it, and say what became of it."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from distributed import Worker, get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from r2t.extract.clip import FrozenClip, num_device_lanes
from r2t.extract.config import ExtractConfig
from r2t.extract.fetch import Scratch
from r2t.extract.run.one_video import (
    FramesDecoded,
    FramesEncoded,
    VideoEnd,
    VideoFailed,
    VideoJob,
    VideoSink,
    decode_video,
    encode,
    open_decode_pool,
)
from r2t.extract.run.progress import StageClock, Tally
from r2t.store.errors import ConfigError, R2TError
from r2t.store.feature_store import FeatureStore
from r2t.store.schema import FeatureSpec

PLUGIN = "r2t-extract"


@dataclass(frozen=True)
class Outcome:
    """What became of one video: frames and seconds of each stage, and why it failed if it did.

    `silence` is the reason, too, where no server said anything of this video. `warnings` may be of
    another video that the same worker has read.
    """

    num_frames: int
    seconds: Mapping[str, float]
    failure: str | None
    silence: str | None
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
        ignore_interrupts: bool,
    ) -> None:
        self._ignore_interrupts = ignore_interrupts
        self._clip_arguments = clip_arguments
        self._config = config
        self._location = location
        self._spec = spec

    async def setup(self, worker: Any) -> None:
        """Load the model, in a thread so that the worker keeps answering meanwhile."""
        if self._ignore_interrupts and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._worker = str(worker.address)
        try:
            await asyncio.to_thread(self._load, worker.state.nthreads)
        except R2TError as error:
            raise ConfigError(
                f"the worker {self._worker} cannot begin: {error}. It has to find CLIP and the "
                "store itself: by name, in a bucket, or under a path that every worker has"
            ) from error

    async def teardown(self, worker: Any) -> None:
        """Write the index rows gathered and end the decoders."""
        await asyncio.to_thread(self._stack.close)

    def _load(self, num_threads: int) -> None:
        self._stack = ExitStack()
        self._clip = FrozenClip.load(**self._clip_arguments)
        store = FeatureStore.open(self._location)
        ours = self._clip.spec(self._spec.frame_rate, self._spec.dtype)
        store.spec.require_equal(
            ours,
            action=f"add to {self._location} from a worker",
            names=(self._location, "this worker"),
        )
        # As in `local_run`: on a CPU each thread encodes on a core of its own.
        self.num_lanes = num_device_lanes(self._clip.device) or num_threads
        self._lane = threading.Semaphore(self.num_lanes)
        self._warnings: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._writer = self._stack.enter_context(store.writer())
        self._scratch = self._stack.enter_context(Scratch(self._config.fetching))
        self._pool = self._stack.enter_context(
            open_decode_pool(
                self._config,
                num_threads,
                size=self._clip.image_size,
                window=self._clip.batch_size,
                on_warning=self._warnings.put,
            )
        )

    def extract(self, job: VideoJob) -> Outcome:
        """Extract one video; raise what is wrong with more than this video."""
        if isinstance(job.place, Path) and not os.path.exists(job.place):
            raise ConfigError(
                f"the worker {self._worker} does not find {job.place}, which the client has: give "
                "videos on a disk of all machines, in a bucket or behind URLs"
            )
        tally = Tally()
        with self._scratch.fetch(job.place) as video, VideoSink(self._writer, tally) as sink:
            for event in decode_video(self._pool, job, video):
                sink.take(self._encoded(event, tally.clock))
                if tally.failed:
                    break
        return Outcome(
            tally.stages[0].num_frames,
            {each.name: each.busy_seconds for each in tally.stages},
            tally.failed.get(job.video_id),
            video.silence,
            tuple(self._gathered_warnings()),
        )

    def _encoded(
        self, event: FramesDecoded | VideoEnd, clock: StageClock
    ) -> FramesEncoded | VideoEnd:
        if not isinstance(event, FramesDecoded):
            return event
        torch.set_num_threads(1)  # torch keeps it for each thread
        try:
            with self._lane:
                return encode(self._clip, event, clock)
        except R2TError as error:  # of this worker perhaps, which is no reason for others to stop
            return VideoFailed(event.job, str(error))

    def _gathered_warnings(self) -> Iterator[str]:
        with suppress(queue.Empty):
            while True:
                yield self._warnings.get_nowait()
