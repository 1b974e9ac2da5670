"""Videos that lie elsewhere: listed, and fetched to this machine for as long as they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.extract.fetch.ahead import FetchAhead as FetchAhead
    from r2t.extract.fetch.config import (
        DEFAULT_MAX_VIDEO_BYTES as DEFAULT_MAX_VIDEO_BYTES,
        DEFAULT_SCRATCH_BYTES as DEFAULT_SCRATCH_BYTES,
        FetchConfig as FetchConfig,
    )
    from r2t.extract.fetch.listing import is_listing as is_listing, list_videos as list_videos
    from r2t.extract.fetch.remote_video import (
        RemoteVideo as RemoteVideo,
        VideoLocation as VideoLocation,
    )
    from r2t.extract.fetch.scratch import (
        FetchedVideo as FetchedVideo,
        Scratch as Scratch,
    )
    from r2t.extract.fetch.turns import Turns as Turns
else:
    __getattr__ = lazy_exports(__name__)
