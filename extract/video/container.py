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

from r2t.extract.video.choices import StreamChoice
from r2t.store.errors import VideoError


def picture_streams(container: InputContainer) -> list[VideoStream]:
    """Return the streams of pictures, without cover images, in the order of the file."""
    covers = Disposition.attached_pic
    return [each for each in container.streams.video if not each.disposition & covers]


@contextmanager
def open_video(
    path: Path, choice: StreamChoice = "best"
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file at a picture stream; errors of FFmpeg become `VideoError`, then and later."""
    if not path.exists():
        raise VideoError(f"{path}: there is no such file")
    if not path.is_file():
        raise VideoError(f"{path}: this is not a file")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty")
    try:
        # An absolute path cannot be mistaken for a protocol, as "a:b.mp4" can.
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            pictures = picture_streams(container)
            stream = container.streams.best("video")
            if choice == "first" and pictures:
                stream = pictures[0]
            if stream is None or stream.disposition & Disposition.attached_pic:
                kinds = ", ".join(sorted({each.type for each in container.streams})) or "none"
                raise VideoError(f"{path}: it has no video stream (streams: {kinds})")
            if not isinstance(stream, VideoStream) or stream.codec_context is None:
                raise VideoError(f"{path}: there is no decoder for its video stream")
            yield container, stream
    except FFmpegError as error:
        raise VideoError(f"{path}: cannot be decoded: {error.strerror or error}") from error
