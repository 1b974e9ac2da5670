"""Videos and sentences to features: frozen CLIP runs once, and what it saw is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.extract.annotate import annotate_store as annotate_store
    from r2t.extract.clip import ClipOptions as ClipOptions, FrozenClip as FrozenClip
    from r2t.extract.config import (
        DEFAULT_MODEL as DEFAULT_MODEL,
        ExtractConfig as ExtractConfig,
        default_num_workers as default_num_workers,
    )
    from r2t.extract.pending import frame_rates as frame_rates, name_videos as name_videos
    from r2t.extract.pipeline import (
        ExtractReport as ExtractReport,
        extract_videos as extract_videos,
        why_no_embeddings as why_no_embeddings,
    )
    from r2t.extract.plan import (
        ExtractPlan as ExtractPlan,
        plan_extraction as plan_extraction,
        query_bytes as query_bytes,
    )
    from r2t.extract.queries import Rewording as Rewording
    from r2t.extract.selftest import check_decoder as check_decoder
    from r2t.extract.sharding import (
        Shard as Shard,
        read_shard as read_shard,
        shard_sizes as shard_sizes,
        take_shard as take_shard,
    )
    from r2t.extract.video import find_videos as find_videos
else:
    __getattr__ = lazy_exports(__name__)
