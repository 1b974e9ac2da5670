"""The demo world: small videos of moving shapes, and what is said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.extract.demo.baselines import (
        ScoredMoments as ScoredMoments,
        SimilarityRule as SimilarityRule,
        choose_similarity_rule as choose_similarity_rule,
        random_moments as random_moments,
        sentences_of_others as sentences_of_others,
        smoothed_curve as smoothed_curve,
        whole_video as whole_video,
    )
    from r2t.extract.demo.render import Painter as Painter
    from r2t.extract.demo.scene import SIDE as SIDE
    from r2t.extract.demo.truth import (
        world_relevance as world_relevance,
        write_relevance as write_relevance,
    )
    from r2t.extract.demo.world import (
        VIDEO_FRAME_RATE_FPS as VIDEO_FRAME_RATE_FPS,
        Level as Level,
        make_story as make_story,
        make_world as make_world,
        read_kinds as read_kinds,
        write_video as write_video,
    )
else:
    __getattr__ = lazy_exports(__name__)
