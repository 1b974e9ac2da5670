"""What is done with each video, on this machine and on a cluster: decode, encode, write, in steps.

A step hands the next one an event: frames that were decoded, the same frames encoded, and last that
the video was decoded to its end, or why it was not. `VideoSink` is where all of them arrive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from r2t.extract.clip import EncodedFrames, FrozenClip
from r2t.extract.config import ExtractConfig
from r2t.extract.fetch import FetchedVideo, Turns, VideoLocation
from r2t.extract.run.progress import StageClock, Tally
from r2t.extract.video import DecodePool, FrameBatch, file_sha256
from r2t.store.errors import R2TError, ServerError, StoreError, VideoError
from r2t.store.features import VideoSource
from r2t.store.video_writer import VideoWriter
from r2t.store.writer import StoreWriter


@dataclass(frozen=True)
class VideoJob:
    """One video to extract."""

    video_id: str
    place: VideoLocation
    frame_rate_fps: float


def in_turns(jobs: Iterable[VideoJob]) -> Turns[VideoJob]:
    """Return jobs in the order in which their videos are fetched."""
    return Turns((job, job.place) for job in jobs)


def leave_silent(turns: Turns[VideoJob], tally: Tally) -> None:
    """Leave the videos of servers that answer nobody for another run."""
    for left in turns.left():
        tally.leave(left.server, [job.video_id for job in left.jobs], left.reason)


@dataclass(frozen=True)
class FramesDecoded:
    """The next frames of a video."""

    job: VideoJob
    batch: FrameBatch


@dataclass(frozen=True, eq=False)
class FramesEncoded:
    """What CLIP made of a video's next frames, from `first_frame` on; the pixels are gone."""

    job: VideoJob
    features: EncodedFrames
    first_frame: int
    num_video_frames: int
    duration_seconds: float

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return self.features.num_frames

    @property
    def part_finished(self) -> float:
        """How much of the video is encoded with these frames, from 0 to 1."""
        return (self.first_frame + self.num_frames) / self.num_video_frames


@dataclass(frozen=True)
class VideoDecoded:
    """The end of a video, and what it was made of."""

    job: VideoJob
    source: VideoSource


@dataclass(frozen=True)
class VideoFailed:
    """The end of a video that could not be decoded, and why."""

    job: VideoJob
    reason: str


VideoEnd = VideoDecoded | VideoFailed


def open_decode_pool(
    config: ExtractConfig, num_workers: int, *, size: int, window: int, **more: Any
) -> DecodePool:
    """Make the pool of decoders that an extraction is to use; `more` is handed to it as it is."""
    return DecodePool(
        num_workers,
        size=size,
        window=window,
        decoder=config.decoder,
        timeout_seconds=config.timeout_seconds,
        memory_bytes=config.memory_bytes,
        stream_choice=config.stream_choice,
        max_hours=config.max_hours,
        **more,
    )


def decode_video(
    pool: DecodePool, job: VideoJob, video: FetchedVideo
) -> Iterator[FramesDecoded | VideoEnd]:
    """Decode one video, which is here by now; what is wrong with it is yielded last, not raised."""
    if video.reason is not None:
        yield VideoFailed(job, video.reason)
        return
    try:
        decoder = ""
        for batch in pool.stream(video.path, job.frame_rate_fps):
            decoder = batch.decoder
            yield FramesDecoded(job, batch)
        digest = file_sha256(video.path)
        source = VideoSource(
            name=job.place.name,
            num_bytes=video.path.stat().st_size,
            sha256=digest,
            decoder=decoder,
        )
        yield VideoDecoded(job, source)
    except R2TError as error:
        yield VideoFailed(job, video.name_place(str(error), job.place))
    except OSError as error:
        yield VideoFailed(job, f"{job.place}: cannot be read: {error.strerror or error}")


def encode(clip: FrozenClip, frames: FramesDecoded, clock: StageClock) -> FramesEncoded:
    """Encode the next frames of a video, and count them as decoded and encoded."""
    batch = frames.batch
    clock.add("decode", len(batch), batch.decode_seconds)
    with clock.timed("encode", len(batch)):
        features = clip.encode_frames(batch.pixels)
    return FramesEncoded(
        frames.job, features, batch.first_frame, batch.num_video_frames, batch.duration_seconds
    )


class VideoSink:
    """Writes videos as their events arrive: each is committed at its end, or leaves nothing.

    Events of several videos may come in turn. What is wrong with one video is noted in `tally`, and
    what else comes of it is passed over. What is wrong with the disk is raised as a `StoreError`.
    Leaving the `with` block gives up the videos whose end has not come.
    """

    def __init__(self, writer: StoreWriter, tally: Tally) -> None:
        self._writer = writer
        self._tally = tally
        self._open: dict[str, tuple[ExitStack, VideoWriter]] = {}

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for video_id in list(self._open):
            self._abandon(
                video_id, VideoError("the extraction stopped before this video was complete")
            )

    def take(self, event: FramesEncoded | VideoEnd) -> None:
        """Write the next frames of a video, commit it, or give it up."""
        video_id = event.job.video_id
        if video_id in self._tally.failed:
            return
        try:
            with self._tally.clock.timed("write"):
                if isinstance(event, VideoFailed):
                    raise VideoError(event.reason)
                if isinstance(event, VideoDecoded):
                    self._commit(video_id, event.source)
                else:
                    self._append(video_id, event)
        except BaseException as error:
            self._abandon(video_id, error)
            if _concerns_one_video(error):
                self._tally.failed[video_id] = str(error)
            elif isinstance(error, OSError) and not isinstance(error, R2TError):
                raise StoreError(
                    f"cannot write the store: {error.strerror or error}. What was committed is "
                    "safe; free space or fix permissions and run the same command again"
                ) from error
            else:
                raise

    def _append(self, video_id: str, frames: FramesEncoded) -> None:
        if video_id not in self._open:
            stack = ExitStack()
            video = self._writer.video(
                video_id,
                num_frames=frames.num_video_frames,
                duration_seconds=frames.duration_seconds,
                frame_rate_fps=frames.job.frame_rate_fps,
            )
            self._open[video_id] = stack, stack.enter_context(video)
        features = frames.features
        embedding = features.embedding if self._writer.embedding else None
        self._open[video_id][1].append(features.tokens, embedding)
        self._tally.clock.add("write", frames.num_frames, 0.0)

    def _commit(self, video_id: str, source: VideoSource) -> None:
        stack, video = self._open[video_id]
        video.source = source  # which decoder served is known only now
        stack.close()
        del self._open[video_id]
        self._tally.done.append(video_id)

    def _abandon(self, video_id: str, error: BaseException) -> None:
        if video_id in self._open:
            stack, _ = self._open.pop(video_id)
            try:
                stack.__exit__(type(error), error, None)
            except BaseException as trouble:  # clearing up failed; the first error says more
                error.add_note(f"clearing up after it failed too: {trouble}")


def _concerns_one_video(error: BaseException) -> bool:
    """Whether other videos may still succeed: not if a disk or a bucket takes no more."""
    if not isinstance(error, R2TError) or isinstance(error, ServerError):
        return False
    cause = error.__cause__
    return not isinstance(cause, OSError) or isinstance(cause, R2TError)
