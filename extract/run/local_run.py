"""Videos extracted by this process: decode ‖ encode ‖ write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from r2t.extract.clip import FrozenClip
from r2t.extract.config import ExtractConfig
from r2t.extract.run.encoding import Tokens, encode_ahead, encoding_lanes
from r2t.extract.run.stages import Stage, StageClock
from r2t.extract.run.writing import WritingThread
from r2t.extract.video import DecodePool, FrameBatch, VideoJob, decode_videos
from r2t.store.schema import VideoSource
from r2t.store.writer import StoreWriter


@dataclass(frozen=True)
class ExtractProgress:
    """How far a run is.

    `num_finished` videos of `num_videos` have succeeded or failed, and `part_finished` is how much
    more is done of those under way, in videos. `failed` names the latest if it failed.
    """

    num_finished: int
    num_videos: int
    part_finished: float = 0.0
    num_frames: int = 0
    stages: tuple[Stage, ...] = ()
    failed: tuple[str, str] | None = None


class LocalRun:
    """The videos of one run, and what became of them."""

    def __init__(
        self,
        config: ExtractConfig,
        clip: FrozenClip,
        on_progress: Callable[[ExtractProgress], None],
        *,
        num_videos: int,
    ) -> None:
        self.done: list[str] = []
        self.failed: dict[str, str] = {}
        self.num_frames = 0
        self._config = config
        self._clip = clip
        self._on_progress = on_progress
        self._num_videos = num_videos
        self._num_finished = 0
        self._under_way: dict[str, float] = {}
        self._num_workers = max(1, min(config.num_workers, num_videos))
        lanes, _ = encoding_lanes(clip.device)
        self._clock = StageClock({"decode": self._num_workers, "encode": lanes, "write": 1})

    @property
    def stages(self) -> tuple[Stage, ...]:
        """How much work decoding, encoding and writing have been so far."""
        return self._clock.stages()

    def extract_videos(self, writer: StoreWriter, jobs: Sequence[VideoJob]) -> None:
        """Extract every video or find out why not; what is wrong with the disk is raised."""
        if not jobs:
            return
        pool = DecodePool(
            self._num_workers,
            size=self._clip.image_size,
            decoder=self._config.decoder,
            window=self._clip.batch_size,
            timeout_seconds=self._config.timeout_seconds,
            memory_bytes=self._config.memory_bytes,
            stream_choice=self._config.stream_choice,
            max_hours=self._config.max_hours,
        )
        writing = WritingThread(writer, self._clock)
        self.done, self.failed = writing.done, writing.failed
        with (
            closing(decode_videos(pool, jobs, num_threads=self._num_workers)) as decoded,
            closing(encode_ahead(self._clip, decoded, self._clock)) as encoded,
            writing,
        ):
            for job, event, tokens in encoded:
                if isinstance(event, FrameBatch):
                    assert tokens is not None, "every window is encoded"
                    self._append(writing, job, event, tokens)
                    self._tell()
                    continue
                failure = None
                if isinstance(event, VideoSource):
                    writing.finish(job.video_id, event)
                else:
                    failure = (job.video_id, str(event))
                    writing.fail(*failure)
                self._num_finished += 1
                self._under_way.pop(job.video_id, None)
                self._tell(failure)

    def _append(
        self, writing: WritingThread, job: VideoJob, batch: FrameBatch, tokens: Tokens
    ) -> None:
        if batch.first_frame == 0:
            writing.begin(
                job.video_id,
                num_frames=batch.num_video_frames,
                duration_seconds=batch.duration_seconds,
                frame_rate_fps=job.frame_rate_fps,
            )
        self._clock.add("decode", len(batch), batch.decode_seconds)
        writing.append(job.video_id, tokens)
        self.num_frames += len(batch)
        self._under_way[job.video_id] = (batch.first_frame + len(batch)) / batch.num_video_frames

    def _tell(self, failure: tuple[str, str] | None = None) -> None:
        self._on_progress(
            ExtractProgress(
                self._num_finished,
                self._num_videos,
                sum(self._under_way.values()),
                self.num_frames,
                self.stages,
                failure,
            )
        )
