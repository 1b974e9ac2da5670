"""Open a video file at its pictures, with FFmpeg's errors turned into our own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from r2t.store.errors import VideoError


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file at its best picture stream; errors of FFmpeg become `VideoError`, then and later.

    The best stream is av_find_best_stream's, which is also decord's choice. A cover image is none.
    """
    if not path.exists():
        raise VideoError(f"{path}: there is no such file")
    if not path.is_file():
        raise VideoError(f"{path}: this is not a file")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty")
    try:
        # An absolute path cannot be mistaken for a protocol, as "a:b.mp4" can.
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            stream = container.streams.best("video")
            if stream is None or stream.disposition & Disposition.attached_pic:
                kinds = ", ".join(sorted({each.type for each in container.streams})) or "none"
                raise VideoError(f"{path}: it has no video stream (streams: {kinds})")
            if not isinstance(stream, VideoStream) or stream.codec_context is None:
                raise VideoError(f"{path}: there is no decoder for its video stream")
            yield container, stream
    except FFmpegError as error:
        raise VideoError(f"{path}: cannot be decoded: {error.strerror or error}") from error
