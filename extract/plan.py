"""What an extraction would take, found out before it begins: frames, bytes, time.

Videos are measured by their headers; time is estimated from a few of them, decoded and encoded here
and now. Nothing is written, and the model's weights are not needed: random ones cost the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import numpy as np

from r2t.extract.clip import FrozenClip
from r2t.extract.config import ExtractConfig
from r2t.extract.fetch import RemoteVideo, Scratch
from r2t.extract.run import VideoJob, open_decode_pool
from r2t.extract.video import DecodePool, VideoLength
from r2t.store.errors import VideoError
from r2t.store.format import split_into_shards
from r2t.store.machine import allowed_cores
from r2t.store.progress import OnProgress, no_progress
from r2t.store.schema import StorageDtype

_MOST_FETCHED = 8  # videos measured where each would have to be fetched
_NUM_SAMPLES = 3  # videos decoded for the estimate, the shortest and the longest avoided
_SAMPLE_FRAMES = 32
_QUERY_WORDS = 12  # of a sentence in QVHighlights on average, with its start and end


@dataclass(frozen=True)
class Tier:
    """Bytes of all videos' features if they were stored this way."""

    dtype: StorageDtype
    num_layers: int
    cls_only: bool
    num_bytes: int


@dataclass(frozen=True)
class ExtractPlan:
    """What an extraction would do; `unreadable` has the videos that would fail, with the reasons.

    `seconds` is the estimated time of it all, `decode_seconds` and `encode_seconds` what each
    stage would take alone; None where no video could be decoded. Of many videos that would have to
    be fetched only some were, and all totals are `scale` times what these came to.
    """

    lengths: Mapping[str, VideoLength]
    unreadable: Mapping[str, str]
    tiers: tuple[Tier, ...]
    num_bytes: int
    decode_seconds: float | None
    encode_seconds: float | None
    seconds: float | None
    scale: float = 1.0

    @property
    def num_videos(self) -> int:
        """Number of readable videos."""
        return round(self.scale * len(self.lengths))

    @property
    def num_frames(self) -> int:
        """Number of frames that would be sampled."""
        return round(self.scale * sum(length.num_frames for length in self.lengths.values()))

    @property
    def duration_seconds(self) -> float:
        """Duration of all readable videos."""
        return self.scale * sum(length.duration_seconds for length in self.lengths.values())


def plan_extraction(
    config: ExtractConfig,
    clip: FrozenClip,
    jobs: Sequence[VideoJob],
    on_video: OnProgress = no_progress,
) -> ExtractPlan:
    """Measure videos and estimate the time; `on_video` is told how many are measured so far."""
    measured = _to_measure(jobs)
    scale = len(jobs) / len(measured) if jobs else 1.0
    lengths: dict[str, VideoLength] = {}
    unreadable: dict[str, str] = {}
    with (
        open_decode_pool(
            config, config.num_workers, size=clip.image_size, window=_SAMPLE_FRAMES
        ) as pool,
        ThreadPoolExecutor(config.num_workers) as threads,
        Scratch(config.fetching) as scratch,
    ):
        found = threads.map(lambda job: _measure(pool, scratch, job), measured)
        for number, (job, length) in enumerate(zip(measured, found, strict=True), start=1):
            if isinstance(length, VideoLength):
                lengths[job.video_id] = length
            else:
                unreadable[job.video_id] = length
            on_video(number, len(measured))
        readable = [job for job in measured if job.video_id in lengths]
        decode = _decode_seconds(pool, scratch, _samples(readable, lengths))
    num_frames = [length.num_frames for length in lengths.values()]
    encode = _encode_seconds(clip) if decode is not None else None
    totals = None
    if decode is not None and encode is not None:
        totals = _total_seconds(config, clip, round(scale * sum(num_frames)), decode, encode)
    chosen = _bytes(clip, num_frames, config.dtype, len(clip.vision_layers), clip.num_tokens)
    return ExtractPlan(
        lengths=lengths,
        unreadable=unreadable,
        tiers=tuple(_tiers(clip, num_frames, scale)),
        num_bytes=round(scale * chosen),
        decode_seconds=totals[0] if totals else None,
        encode_seconds=totals[1] if totals else None,
        seconds=totals[2] if totals else None,
        scale=scale,
    )


def query_bytes(clip: FrozenClip, num_queries: int) -> int:
    """Return about how much the features of queries take, at a common length."""
    tokens = _QUERY_WORDS * len(clip.text_layers) * clip.text_width * 2
    return num_queries * (tokens + _embedding_bytes(clip))


def _measure(pool: DecodePool, scratch: Scratch, job: VideoJob) -> VideoLength | str:
    with scratch.fetch(job.place) as video:
        if video.reason is not None:
            return video.reason
        try:
            return pool.measure(video.path, job.frame_rate_fps)
        except VideoError as error:
            return video.name_place(str(error), job.place)


def _to_measure(jobs: Sequence[VideoJob]) -> Sequence[VideoJob]:
    """Return all videos, or some from everywhere among them if they would have to be fetched."""
    if len(jobs) <= _MOST_FETCHED or not any(isinstance(job.place, RemoteVideo) for job in jobs):
        return jobs
    return [jobs[len(jobs) * number // _MOST_FETCHED] for number in range(_MOST_FETCHED)]


def _samples(jobs: Sequence[VideoJob], lengths: Mapping[str, VideoLength]) -> list[VideoJob]:
    by_length = sorted(jobs, key=lambda job: lengths[job.video_id].num_frames)
    places = {len(by_length) * (place + 1) // (_NUM_SAMPLES + 1) for place in range(_NUM_SAMPLES)}
    return [by_length[place] for place in sorted(places) if place < len(by_length)]


def _decode_seconds(pool: DecodePool, scratch: Scratch, jobs: Sequence[VideoJob]) -> float | None:
    """Return the seconds that decoding a frame takes a worker."""
    num_frames, seconds = 0, 0.0
    for job in jobs:
        # One that is damaged behind its header is named by the extraction.
        with suppress(VideoError), scratch.fetch(job.place) as video:
            for batch in islice(pool.stream(video.path, job.frame_rate_fps), 1):
                num_frames += len(batch)
                seconds += batch.decode_seconds
    return seconds / num_frames if num_frames else None


def _encode_seconds(clip: FrozenClip) -> float:
    pixels = np.zeros((clip.batch_size, 3, clip.image_size, clip.image_size), np.uint8)
    clip.encode_frames(pixels)  # the first batch allocates and compiles
    began = time.perf_counter()
    clip.encode_frames(pixels)
    return (time.perf_counter() - began) / len(pixels)


def _total_seconds(
    config: ExtractConfig, clip: FrozenClip, num_frames: int, decode: float, encode: float
) -> tuple[float, float, float]:
    """Return seconds of decoding, of encoding, and of both overlapped.

    On a CPU both want the same cores, so their work adds up; beside a GPU the slower one decides.
    """
    decoding = num_frames * decode / config.num_workers
    encoding = num_frames * encode
    if clip.device.type != "cpu":
        return decoding, encoding, max(decoding, encoding)
    shared = encoding + num_frames * decode / allowed_cores()
    return decoding, encoding, max(decoding, shared)


def _tiers(clip: FrozenClip, num_frames: Sequence[int], scale: float) -> Iterator[Tier]:
    depth = min(clip.towers.vision_depth, clip.towers.text_depth)
    for num_layers in sorted({1, min(2, depth), len(clip.vision_layers), depth}):
        for cls_only in (False, True):
            num_tokens = 1 if cls_only else clip.num_tokens
            dtypes: tuple[StorageDtype, ...] = ("float16", "int8")
            for dtype in dtypes:
                num_bytes = _bytes(clip, num_frames, dtype, num_layers, num_tokens)
                yield Tier(dtype, num_layers, cls_only, round(scale * num_bytes))


def _bytes(
    clip: FrozenClip,
    num_frames: Sequence[int],
    dtype: StorageDtype,
    num_layers: int,
    num_tokens: int,
) -> int:
    item, affine = (2, 0) if dtype == "float16" else (1, 2 * 4 * num_layers * clip.vision_width)
    padded = 0
    for count in num_frames:
        num_shards, shard_frames = split_into_shards(count)
        padded += num_shards * shard_frames
    frame = num_layers * num_tokens * clip.vision_width * item
    embeddings = sum(num_frames) * _embedding_bytes(clip)
    return padded * frame + embeddings + len(num_frames) * affine


def _embedding_bytes(clip: FrozenClip) -> int:
    """Return what the embedding of a frame or sentence takes."""
    return 0 if clip.embedding is None else 2 * clip.embedding.width
