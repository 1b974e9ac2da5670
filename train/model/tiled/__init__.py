"""The R² Block's fast arithmetic: the same numbers, a tile of frames at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.train.model.tiled.map_weights import MapWeights as MapWeights
    from r2t.train.model.tiled.spatial_pooling import (
        Question as Question,
        maps_first as maps_first,
        pool_patches as pool_patches,
    )
    from r2t.train.model.tiled.tile_pooling import EPSILON as EPSILON
    from r2t.train.model.tiled.video_tiles import (
        VideoTokens as VideoTokens,
        frames_in_tile as frames_in_tile,
        plan_tiles as plan_tiles,
    )
else:
    __getattr__ = lazy_exports(__name__)
