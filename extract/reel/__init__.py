"""Which parts of a video a short reel of it shows: typical and diverse ones, or salient ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.extract.reel.looks import (
        likeness as likeness,
        typical_segments as typical_segments,
    )
    from r2t.extract.reel.salience import (
        mean_saliency as mean_saliency,
        salient_segments as salient_segments,
    )
    from r2t.extract.reel.segments import (
        LEAST_SECONDS as LEAST_SECONDS,
        ReelPlan as ReelPlan,
        Segment as Segment,
        evenly_spaced as evenly_spaced,
    )
else:
    __getattr__ = lazy_exports(__name__)
