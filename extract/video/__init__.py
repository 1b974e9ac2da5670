"""From a video file to frames, in processes that can be killed, and back to clips."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.extract.video.choices import (
        DEFAULT_MAX_HOURS as DEFAULT_MAX_HOURS,
        DEFAULT_MEMORY_BYTES as DEFAULT_MEMORY_BYTES,
        DecoderChoice as DecoderChoice,
        StreamChoice as StreamChoice,
        decord_name as decord_name,
        require_decoder as require_decoder,
        require_hours as require_hours,
        require_stream_choice as require_stream_choice,
    )
    from r2t.extract.video.cut import require_clip_path as require_clip_path
    from r2t.extract.video.decode_pool import DecodePool as DecodePool
    from r2t.extract.video.folder import find_videos as find_videos
    from r2t.extract.video.frames import FrameBatch as FrameBatch, file_sha256 as file_sha256
    from r2t.extract.video.probe import VideoLength as VideoLength
    from r2t.extract.video.windows import FrameWindows as FrameWindows
else:
    __getattr__ = lazy_exports(__name__)
