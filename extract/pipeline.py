"""One extraction: skip what is done, then decode ‖ encode ‖ write, and set aside what fails.

Decoding runs in killable processes, the model in the calling thread, writing in a thread of its
own. A video appears in the store when it is complete, so a run may end at any point and the next
one goes on from there. Queries are stored after the videos, and only those of stored videos.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from r2t.extract.clip import FrozenClip
from r2t.extract.config import ExtractConfig
from r2t.extract.decode_ahead import VideoJob, decode_ahead
from r2t.extract.decode_pool import DecodePool
from r2t.extract.frames import FrameBatch
from r2t.extract.quarantine import Quarantine
from r2t.extract.queries import (
    add_queries,
    require_unambiguous,
    stored_only,
    warn_of_late_moments,
)
from r2t.extract.writing import WritingThread
from r2t.store.annotations import Annotation
from r2t.store.feature_store import FeatureStore
from r2t.store.schema import PER_VIDEO, VideoSource
from r2t.store.writer import StoreWriter


@dataclass(frozen=True)
class Progress:
    """How far a run is: videos finished, of which `failed` names the latest if it failed."""

    num_finished: int
    num_videos: int
    failed: tuple[str, str] | None = None


@dataclass(frozen=True)
class ExtractReport:
    """What a run did. Reasons are keyed by video id.

    `quarantined` failed in an earlier run and were not tried; `missing_videos` counts the queries
    of each annotated video that is neither stored nor among the given files. These queries and
    those of failed videos are `num_withheld_queries`, which wait for a run that has their videos.
    """

    done: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: Mapping[str, str]
    quarantined: Mapping[str, str]
    missing_videos: Mapping[str, int]
    num_frames: int
    num_new_queries: int
    num_known_queries: int
    num_withheld_queries: int
    seconds: float
    interrupted: bool
    quarantine_path: Path

    @property
    def complete(self) -> bool:
        """Whether every video and query that was asked for is in the store."""
        return not (self.failed or self.quarantined or self.missing_videos or self.interrupted)


def extract(
    config: ExtractConfig,
    clip: FrozenClip,
    store: FeatureStore,
    videos: Sequence[Path],
    annotations: Sequence[Annotation],
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> ExtractReport:
    """Bring the features of videos and of their queries into a store made for this model.

    SIGINT and SIGTERM end the run early: complete videos stay, and the report says so. Raises
    `StoreError` where the store cannot be written, with everything committed before intact.
    """
    began = time.monotonic()
    store.spec.require_equal(
        clip.spec(config.frame_rate, config.dtype), action=f"add to {store.location}"
    )
    annotations, known = require_unambiguous(store, annotations)
    quarantine = Quarantine(store.location)
    paths = {path.stem: path for path in videos}
    skipped = [video_id for video_id in paths if store.has_video(video_id)]
    pending = [video_id for video_id in paths if video_id not in set(skipped)]
    set_aside = {} if config.retry_failed else quarantine.read()
    quarantined = {name: set_aside[name] for name in pending if name in set_aside}
    rates, failed = frame_rates(config, annotations, pending)
    jobs = [VideoJob(name, paths[name], rates[name]) for name in rates if name not in quarantined]
    with store.writer() as writer, _sigterm_as_interrupt():
        for video_id in skipped:
            writer.index(video_id)
        run = _Run(config, clip, on_progress, num_videos=len(jobs))
        try:
            run.extract_videos(writer, jobs)
            writer.flush()
            store.refresh()
            wanted, missing = stored_only(store, annotations, paths)
            num_withheld = len(annotations) - len(wanted)
            new = [each for each in wanted if each.query_id not in known]
            add_queries(clip, writer, new)
            warn_of_late_moments(store, wanted)
        except KeyboardInterrupt:
            run.interrupted, new, missing, num_withheld = True, [], {}, 0
        finally:
            failed |= run.failed
            quarantine.update(failed=failed, resolved={*skipped, *run.done})
    return ExtractReport(
        done=tuple(run.done),
        skipped=tuple(skipped),
        failed=failed,
        quarantined=quarantined,
        missing_videos=missing,
        num_frames=run.num_frames,
        num_new_queries=len(new),
        num_known_queries=len(known),
        num_withheld_queries=num_withheld,
        seconds=time.monotonic() - began,
        interrupted=run.interrupted,
        quarantine_path=quarantine.path,
    )


class _Run:
    """The videos of one run, and what became of them."""

    def __init__(
        self,
        config: ExtractConfig,
        clip: FrozenClip,
        on_progress: Callable[[Progress], None],
        *,
        num_videos: int,
    ) -> None:
        self.done: list[str] = []
        self.failed: dict[str, str] = {}
        self.num_frames = 0
        self.interrupted = False
        self._config = config
        self._clip = clip
        self._on_progress = on_progress
        self._num_videos = num_videos

    def extract_videos(self, writer: StoreWriter, jobs: Sequence[VideoJob]) -> None:
        if not jobs:
            return
        num_workers = min(self._config.num_workers, len(jobs))
        pool = DecodePool(
            num_workers,
            size=self._clip.image_size,
            decoder=self._config.decoder,
            window=self._clip.batch_size,
            timeout_seconds=self._config.timeout_seconds,
            memory_bytes=self._config.memory_bytes,
        )
        writing = WritingThread(writer)
        self.done, self.failed = writing.done, writing.failed
        decoded = decode_ahead(pool, jobs, num_threads=num_workers)
        try:
            with writing:
                num_finished = 0
                for job, event in decoded:
                    if isinstance(event, FrameBatch):
                        self._encode(writing, job, event)
                        continue
                    failure = None
                    if isinstance(event, VideoSource):
                        writing.finish(job.video_id, event)
                    else:
                        failure = (job.video_id, str(event))
                        writing.fail(*failure)
                    num_finished += 1
                    self._on_progress(Progress(num_finished, self._num_videos, failure))
        finally:
            decoded.close()

    def _encode(self, writing: WritingThread, job: VideoJob, batch: FrameBatch) -> None:
        if batch.first_frame == 0:
            writing.begin(
                job.video_id,
                num_frames=batch.num_video_frames,
                duration_seconds=batch.duration_seconds,
                frame_rate_fps=job.frame_rate_fps,
            )
        writing.append(job.video_id, self._clip.encode_frames(batch.pixels))
        self.num_frames += len(batch)


def frame_rates(
    config: ExtractConfig, annotations: Sequence[Annotation], video_ids: Sequence[str]
) -> tuple[dict[str, float], dict[str, str]]:
    """Return the frame rate of each video, and why some have none."""
    if config.frame_rate != PER_VIDEO:
        return dict.fromkeys(video_ids, float(config.frame_rate)), {}
    clips = {
        each.video_id: each.saliency.clip_seconds
        for each in annotations
        if each.saliency is not None
    }
    reason = "one frame a clip was asked for, but no annotation has saliency of its clips"
    return (
        {name: 1 / clips[name] for name in video_ids if name in clips},
        {name: reason for name in video_ids if name not in clips},
    )


@contextmanager
def _sigterm_as_interrupt() -> Generator[None]:
    """Let SIGTERM end the run as Ctrl-C does; signals belong to the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
