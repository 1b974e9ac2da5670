"""Two decoders that agree to the frame: PyAV, which decodes everything, and decord, which seeks.

Slot i of a video shows its last frame whose presentation time is strictly before (i + 1/2) / fps,
or its first frame where none is. PyAV reads a file from end to end and is right on anything FFmpeg
can decode. decord jumps to the key frame before each slot, which is cheaper where key frames are
dense; its seeking returns wrong pictures, without an error, on open GOPs, intra refresh, HEVC,
MPEG-4, 4:4:4, transport streams and files with an edit list (each seen). So it is trusted only with
8-bit 4:2:0 H.264 and VP9 in MP4 and Matroska, where every key frame resets the decoder and its
table of frames is FFmpeg's. decord does not check what it jumps over, nor does it report damage
inside a picture that FFmpeg could patch up: PyAV does both.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import av
import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8
from PIL import Image

from r2t.extract.video.container import Orientation, on_one_clock, open_video
from r2t.extract.video.probe import VideoInfo
from r2t.extract.video.timeline import frame_ticks
from r2t.store.errors import VideoError

PYAV = f"pyav {av.__version__}"


class Picture(NamedTuple):
    """One slot's picture and the presentation time of the frame it came from."""

    pixels: UInt8[np.ndarray, "3 size size"]
    seconds: Fraction


class DecordRefusal(Exception):
    """decord cannot, or should not, decode this video."""


class FrameSampling(NamedTuple):
    """Which pictures are wanted of a video: slots from `first_slot` on, square of `size` pixels."""

    rate: Fraction
    size: int
    first_slot: int
    num_threads: int


def pyav_pictures(
    video: VideoInfo, sampling: FrameSampling, tick: Callable[[], None]
) -> Iterator[Picture]:
    """Decode from the start with PyAV; `tick` is called once for every frame decoded."""
    rate, slot = sampling.rate, sampling.first_slot
    num_slots, gap_limit = video.num_slots(rate), video.gap_limit_ticks(rate)
    shown: av.VideoFrame | None = None  # the last frame before the next slot's centre
    shown_ticks, gap = 0, 0
    # One for all pictures: each starts threads, which a frame's own would leave to the collector.
    to_rgb = VideoReformatter()
    with open_video(video.path, video.stream_choice) as (container, stream):
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = sampling.num_threads
        packets = on_one_clock(container, stream, video.timeline, str(video.path))
        for frame in (frame for packet in packets for frame in packet.decode()):
            assert isinstance(frame, av.VideoFrame)
            tick()
            ticks = frame.pts if frame.pts is not None else shown_ticks + gap
            if shown is not None:
                ticks = max(ticks, shown_ticks)
            _require_sound(video, frame, ticks)
            if shown is not None and ticks - shown_ticks > gap_limit:
                video.warn_of_gap(shown_ticks, ticks)
            picture: Picture | None = None
            while slot < num_slots and video.slot_ticks(slot, rate) <= ticks:
                if picture is None:
                    chosen = (frame, ticks) if shown is None else (shown, shown_ticks)
                    picture = _picture(video, *chosen, to_rgb, sampling.size)
                slot += 1
                if slot == num_slots:  # before the last is handed out, which may end the reading
                    _require_no_more(video, packets, ticks, rate, tick)
                yield picture
            if slot == num_slots:
                return
            steps = (0 if shown is None else ticks - shown_ticks, gap, frame.duration)
            gap = next((step for step in steps if step), frame_ticks(stream))
            shown, shown_ticks = frame, ticks
        if shown is None:
            raise VideoError(f"{video.path}: its video stream holds no decodable pictures")
        video.require_whole(shown_ticks, rate)
        picture = _picture(video, shown, shown_ticks, to_rgb, sampling.size)
        for _ in range(slot, num_slots):
            yield picture


def _require_no_more(
    video: VideoInfo,
    packets: Iterator[Packet],
    last: int,
    rate: Fraction,
    tick: Callable[[], None],
) -> None:
    """Raise `VideoError` where more or less follows on the last slot than should."""
    video.require_end(last, rate)
    try:
        for packet in packets:
            tick()
            ticks = packet.dts if packet.pts is None else packet.pts
            if packet.size and ticks is not None:
                last = max(last, ticks)
                video.require_end(last, rate)
    except FFmpegError:  # junk, or where the file is cut off
        pass
    video.require_whole(last, rate)


def _picture(
    video: VideoInfo, frame: av.VideoFrame, ticks: int, to_rgb: VideoReformatter, size: int
) -> Picture:
    rgb = to_rgb.reformat(frame, format="rgb24").to_ndarray()
    return Picture(resize_and_crop(Orientation.of(frame).apply(rgb), size), video.seconds(ticks))


def _require_sound(video: VideoInfo, frame: av.VideoFrame, ticks: int) -> None:
    """Raise `VideoError` for a frame that is patched up."""
    if frame.is_corrupt:
        raise VideoError(
            f"{video.path}: the picture at {float(video.seconds(ticks)):.3f} s is damaged"
        )


def resize_and_crop(
    rgb: UInt8[np.ndarray, "height width 3"], size: int
) -> UInt8[np.ndarray, "3 size size"]:
    """Bring the short side to `size` and the long side in proportion, then keep the centre.

    The order is that of the official extraction. Pillow's bicubic filter widens with the scale and
    so does not alias.
    """
    height, width = rgb.shape[:2]
    short = min(height, width)
    new_width, new_height = width * size // short, height * size // short
    image = Image.fromarray(np.ascontiguousarray(rgb))
    if (new_width, new_height) != (width, height):
        image = image.resize((new_width, new_height), Image.Resampling.BICUBIC)
    left, top = (new_width - size) // 2, (new_height - size) // 2
    image = image.crop((left, top, left + size, top + size))
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def decord_pictures(
    video: VideoInfo, sampling: FrameSampling, tick: Callable[[], None]
) -> Iterator[Picture]:
    """Decode the wanted frames alone with decord; raise `DecordRefusal` where it is not right."""
    _require_seekable(video)
    table = _FrameTable.read(video, tick)
    rate = sampling.rate
    video.require_whole(table.ticks[-1], rate)
    video.require_end(table.ticks[-1], rate)
    gap_limit = video.gap_limit_ticks(rate)
    for before, ticks in pairwise(table.ticks):
        if ticks - before > gap_limit:
            video.warn_of_gap(before, ticks)
    reader = _open_decord(video, table, sampling.num_threads)
    last_index, picture = -1, None
    for slot in range(sampling.first_slot, video.num_slots(rate)):
        index = max(0, bisect_left(table.ticks, video.slot_ticks(slot, rate)) - 1)
        if picture is None or index != last_index:
            try:
                rgb = reader.get_batch([index]).asnumpy()[0]
            except Exception as error:
                raise DecordRefusal(_first_line(error)) from error
            picture = Picture(
                resize_and_crop(rgb, sampling.size), video.seconds(table.ticks[index])
            )
            last_index = index
            tick()
        yield picture


def _require_seekable(video: VideoInfo) -> None:
    if not {"mp4", "matroska"} & set(video.container.split(",")):
        raise DecordRefusal(f"container {video.container}")
    if video.codec not in ("h264", "vp9") or video.pixel_format not in ("yuv420p", "yuvj420p"):
        raise DecordRefusal(f"codec {video.codec} {video.pixel_format}")
    if video.num_streams > 1:  # its own FFmpeg ranks them otherwise, and it does not say how
        raise DecordRefusal("several streams of pictures")
    if video.interlaced:
        raise DecordRefusal("interlaced pictures")
    if video.orientation.mirrored:
        raise DecordRefusal("mirrored pictures")


class _FrameTable(NamedTuple):
    """Timestamps of all frames in the order shown, and which of them a decoder can start at."""

    ticks: list[int]
    clean_keys: frozenset[int]

    @classmethod
    def read(cls, video: VideoInfo, tick: Callable[[], None]) -> _FrameTable:
        ticks: list[int] = []
        clean: set[int] = set()
        with open_video(video.path, video.stream_choice) as (container, stream):
            extradata = stream.codec_context.extradata or b""
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                tick()
                if packet.pts is None or packet.is_discard:
                    raise DecordRefusal("frames that are not shown, or without a time")
                ticks.append(packet.pts)
                if packet.is_keyframe and (video.codec == "vp9" or _holds_idr(packet, extradata)):
                    clean.add(packet.pts)
        if not ticks:
            raise DecordRefusal("no packets of pictures")
        ticks.sort()
        if len(set(ticks)) < len(ticks):
            raise DecordRefusal("frames of equal time")
        keys = frozenset(index for index, stamp in enumerate(ticks) if stamp in clean)
        return cls(ticks, keys)


def _holds_idr(packet: Packet, extradata: bytes) -> bool:
    """Tell whether an H.264 packet resets the decoder: an IDR slice, by length-prefixed units."""
    if len(extradata) < 5 or extradata[0] != 1:
        return False
    prefix = (extradata[4] & 3) + 1
    data, position = bytes(packet), 0
    while position + prefix < len(data):
        if data[position + prefix] & 31 == 5:
            return True
        position += prefix + int.from_bytes(data[position : position + prefix], "big")
    return False


def _open_decord(video: VideoInfo, table: _FrameTable, num_threads: int) -> Any:
    """Open decord's reader and hold it to the frame table that FFmpeg gave."""
    try:
        import decord

        reader = decord.VideoReader(str(video.path.absolute()), num_threads=num_threads)
        starts = reader.get_frame_timestamp(range(len(reader)))[:, 0].astype(np.float64)
        keys = set(reader.get_key_indices())
    except Exception as error:
        raise DecordRefusal(_first_line(error)) from error
    ours = np.array(table.ticks, np.float64) * float(video.time_base)
    # decord keeps seconds in float32, and may count from the first frame.
    tolerance = 1e-3 + 2 * np.finfo(np.float32).eps * float(np.abs(ours).max(initial=1.0))
    if len(starts) != len(ours) or not np.allclose(
        starts - starts[0], ours - ours[0], rtol=0, atol=tolerance
    ):
        raise DecordRefusal("its table of frames differs from FFmpeg's")
    if not keys <= table.clean_keys:
        raise DecordRefusal("key frames that do not reset the decoder")
    return reader


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]
