"""One number that says how well a sentence fits a whole video, so that videos can be ranked.

Heads and saliency are trained to tell where in a video a sentence holds, so their highest values
say little about whether it does. Two cosines of frame and sentence say it: that of CLIP's own
embeddings, which a model with a prior is given, and for other models the learned one that the
calibration losses compare across videos. A video scores the mean of its best frames, which is
steadier than the best one alone, and does not sink in a long video with a short moment.
`docs/search.md` has the measurements.
"""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float, Float32

from r2t.train.model.model import Predictions

BEST_FRAMES = 3  # fewer than any moment that is worth finding has
FROZEN_SCORE = f"CLIP's cosine of the {BEST_FRAMES} best frames"
LEARNED_SCORE = f"learned cosine of the {BEST_FRAMES} best frames"


def video_score(fit: Float[np.ndarray, " frames"]) -> float:
    """Return the mean of the best frames' fit, of all frames where there are no more."""
    best = np.sort(fit.astype(np.float64))[-BEST_FRAMES:]
    return float(best.mean())


def frame_fit(predictions: Predictions, lengths: list[int]) -> list[Float32[np.ndarray, " _"]]:
    """Return how well each real frame fits the query, which can be compared between videos.

    It is CLIP's own cosine in a model with a prior. Else it is the cosine of the mapped CLS token
    and the pooled query in the mean of the layers.
    """
    fit = predictions.clip_cosines
    if fit is None:
        frames = F.normalize(predictions.layer_frames, dim=-1)
        queries = F.normalize(predictions.layer_queries, dim=-1)
        fit = (frames * queries[:, :, None]).sum(dim=-1).mean(dim=0)
    table = fit.detach().cpu().numpy()
    return [row[:num_frames] for row, num_frames in zip(table, lengths, strict=True)]
