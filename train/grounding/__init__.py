"""Asking a trained model or the frozen CLIP: one video, a whole store, a long video in windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.train.grounding.answerer import Answerer as Answerer, Prepared as Prepared
    from r2t.train.grounding.corpus import ask_corpus as ask_corpus
    from r2t.train.grounding.evaluation import (
        evaluate_groundings as evaluate_groundings,
        submission_rows as submission_rows,
    )
    from r2t.train.grounding.ground_store import (
        StoredQueries as StoredQueries,
        long_videos as long_videos,
        longest_video as longest_video,
    )
    from r2t.train.grounding.grounder import Grounder as Grounder
    from r2t.train.grounding.prepared import PreparedVideo as PreparedVideo
    from r2t.train.grounding.presence import (
        PRESENCE as PRESENCE,
        PresenceRule as PresenceRule,
        load_rule as load_rule,
        save_rule as save_rule,
    )
    from r2t.train.grounding.presence_choice import choose_presence_rule as choose_presence_rule
    from r2t.train.grounding.search import VideoAnswer as VideoAnswer, search_store as search_store
    from r2t.train.grounding.stored_similarity import EmbeddedQueries as EmbeddedQueries
    from r2t.train.grounding.windows import WindowPlan as WindowPlan, scoring_plan as scoring_plan
    from r2t.train.grounding.zero_shot import (
        FROZEN_LABEL as FROZEN_LABEL,
        ZeroShotGrounder as ZeroShotGrounder,
        whole_plan as whole_plan,
    )
else:
    __getattr__ = lazy_exports(__name__)
