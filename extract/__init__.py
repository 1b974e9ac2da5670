"""Videos and sentences to features: frozen CLIP runs once, and what it saw is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.extract.clip import FrozenClip as FrozenClip
    from r2t.extract.config import ExtractConfig as ExtractConfig
    from r2t.extract.pipeline import extract_videos as extract_videos
    from r2t.extract.video import find_videos as find_videos
else:
    __getattr__ = lazy_exports(__name__)
