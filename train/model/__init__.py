"""The method: the R² Block, pyramid, heads, losses, and predictions decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.train.model.config import R2Config as R2Config
    from r2t.train.model.decode import (
        DecodeConfig as DecodeConfig,
        Grounding as Grounding,
        Suppression as Suppression,
        decode_predictions as decode_predictions,
        decode_rows as decode_rows,
        moment_iou as moment_iou,
        postprocess as postprocess,
    )
    from r2t.train.model.looks import Looks as Looks
    from r2t.train.model.losses import (
        LossConfig as LossConfig,
        Losses as Losses,
        compute_losses as compute_losses,
    )
    from r2t.train.model.model import (
        Predictions as Predictions,
        R2Model as R2Model,
        Refined as Refined,
        shape_problems as shape_problems,
    )
    from r2t.train.model.official import load_official as load_official
    from r2t.train.model.ranking import (
        FROZEN_SCORE as FROZEN_SCORE,
        LEARNED_SCORE as LEARNED_SCORE,
        frame_fit as frame_fit,
        video_score as video_score,
    )
else:
    __getattr__ = lazy_exports(__name__)
