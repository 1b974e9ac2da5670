"""Sample the frames of a video in this process; `decode_pool` does it in workers.

Fast decoders crash and hang on files from the wild, so use this where a video is trusted or its
loss is the caller's own, and the pool everywhere else. Neither this module nor what it imports
knows torch: a decoding worker starts in well under a second.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from r2t.extract.video.choices import (
    DEFAULT_MAX_HOURS,
    DecoderChoice,
    StreamChoice,
    decord_name,
    exact_rate,
    require_decoder,
)
from r2t.extract.video.decoders import (
    PYAV,
    DecordRefusal,
    FrameSampling,
    Picture,
    decord_pictures,
    pyav_pictures,
)
from r2t.extract.video.probe import VideoInfo, probe
from r2t.store.errors import ConfigError, VideoError


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """Consecutive sampled frames of one video, of which it holds [first_frame, first_frame + n).

    `pixels` is RGB; `timestamps_seconds` are the presentation times of the source frames shown, so
    they repeat where a slow video fills several slots with one frame. `decoder` says what decoded
    the video up to the end of this batch; `decode_seconds` is what that took, where it is known.
    """

    pixels: UInt8[np.ndarray, "frames 3 height width"]
    timestamps_seconds: Float64[np.ndarray, " frames"]
    duration_seconds: float
    first_frame: int
    num_video_frames: int
    decoder: str
    decode_seconds: float = 0.0

    def __post_init__(self) -> None:
        frames = len(self.pixels)
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or self.pixels.shape[1] != 3:
            raise ConfigError(
                f"{self.pixels.shape = } of {self.pixels.dtype}, expected uint8 [frames, 3, H, W]"
            )
        if self.timestamps_seconds.shape != (frames,) or frames == 0:
            raise ConfigError(f"{self.timestamps_seconds.shape = } for {frames} frames")
        if not (np.diff(self.timestamps_seconds) >= 0).all():
            raise ConfigError("timestamps_seconds must not descend")
        if not (math.isfinite(self.duration_seconds) and self.duration_seconds >= 0):
            raise ConfigError(f"{self.duration_seconds = }, must be at least 0")
        if not 0 <= self.first_frame <= self.num_video_frames - frames:
            raise ConfigError(
                f"frames {self.first_frame} to {self.first_frame + frames} of a video of "
                f"{self.num_video_frames}"
            )

    def __len__(self) -> int:
        return len(self.pixels)

    def __repr__(self) -> str:
        return (
            f"FrameBatch(frames {self.first_frame} to {self.first_frame + len(self)} of "
            f"{self.num_video_frames}, pixels=uint8{list(self.pixels.shape)}, {self.decoder})"
        )


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes in hex; raise `VideoError` if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise VideoError(f"{path}: cannot be read: {error.strerror}") from error


def stream_frames(  # noqa: PLR0913 - a parameter for each choice
    path: str | Path,
    fps: float | Fraction,
    *,
    size: int = 224,
    decoder: DecoderChoice = "auto",
    window: int = 64,
    first_frame: int = 0,
    num_threads: int = 1,
    stream_choice: StreamChoice = "best",
    max_hours: float = DEFAULT_MAX_HOURS,
    on_step: Callable[[str], None] = lambda decoder: None,
) -> Iterator[FrameBatch]:
    """Yield the frames of a video from `first_frame` on, sampled at `fps`, `window` at a time.

    Frame i is the last source frame presented before (i + 1/2) / fps. Memory holds one window
    besides the decoder's own. "auto" is decord where it is installed and right, else PyAV, which
    also takes over at the frame where decord fails. A video of more than `max_hours` is refused; of
    one with several picture streams, `stream_choice` is taken, and the batches name it.
    `on_step` is called with the decoder's name at every step of work. Raises `VideoError`, before
    the first batch or after any.
    """
    require_decoder(decoder)
    if size < 1 or window < 1 or num_threads < 1:
        raise ConfigError(f"{size = }, {window = }, {num_threads = }: each must be at least 1")
    rate = exact_rate(fps)
    video = probe(
        path, stream_choice=stream_choice, max_hours=max_hours, tick=lambda: on_step(PYAV)
    )
    video.warn_of_rate(rate)
    name = None if decoder == "pyav" else decord_name()
    label = PYAV
    if name is not None:
        sampling = FrameSampling(rate, size, first_frame, num_threads)
        pictures = decord_pictures(video, sampling, lambda: on_step(name))
        try:
            for batch in _windows(pictures, video, sampling, window, name):
                yield batch
                first_frame += len(batch)
                label = handover_label(PYAV, first_frame, name, "failed")
            return
        except DecordRefusal as refusal:
            if decoder == "decord":
                raise VideoError(f"{video.path}: not for decord: {refusal}") from refusal
    sampling = FrameSampling(rate, size, first_frame, num_threads)
    pictures = pyav_pictures(video, sampling, lambda: on_step(PYAV))
    yield from _windows(pictures, video, sampling, window, label)


def handover_label(decoder: str, first_frame: int, failed: str, reason: str) -> str:
    """Return how a batch names its decoder once another has failed on the video."""
    return f"{decoder} from frame {first_frame}, after {failed} {reason}"


def _windows(
    pictures: Iterator[Picture],
    video: VideoInfo,
    sampling: FrameSampling,
    window: int,
    decoder: str,
) -> Iterator[FrameBatch]:
    first_frame = sampling.first_slot
    while taken := list(islice(pictures, window)):
        yield FrameBatch(
            pixels=np.stack([picture.pixels for picture in taken]),
            timestamps_seconds=np.array([float(picture.seconds) for picture in taken]),
            duration_seconds=video.duration_seconds,
            first_frame=first_frame,
            num_video_frames=video.num_slots(sampling.rate),
            decoder=f"{decoder}{video.stream_label}",
        )
        first_frame += len(taken)
