"""From predictions to moments and saliency: what a person or an evaluator reads.

Post-processing follows the official evaluation: clamp to the video, round to the dataset's unit,
suppress overlaps. Suppression lowers scores and drops nothing. Arithmetic is float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float32, Float64

from r2t.store.errors import ConfigError
from r2t.store.html import html_table
from r2t.train.data import Batch
from r2t.train.model.model import Predictions
from r2t.train.model.ranking import frame_fit, video_score

if TYPE_CHECKING:
    import pandas as pd

Suppression = Literal["hard", "linear", "gaussian", "none"]
_SHOWN_MOMENTS = 10


@dataclass(frozen=True, kw_only=True)
class DecodeConfig:
    """How predictions become moments.

    `unit_seconds`: round moments to multiples of it, but for those that reach the video's end.
    `suppression`: "hard" zeroes the score of what overlaps a better moment by `iou_threshold`,
    "linear" multiplies it by 1 - IoU, "gaussian" by exp(-IoU² / `sigma`). `cosine_saliency`: weigh
    the class probability of a frame with its cosine to the query (moment retrieval), or not
    (highlight-only tasks).
    """

    max_moments: int = 50
    unit_seconds: float | None = None
    suppression: Suppression = "hard"
    iou_threshold: float = 0.7
    sigma: float = 0.5
    cosine_saliency: bool = True

    def __post_init__(self) -> None:
        if self.max_moments < 1:
            raise ConfigError(f"max_moments = {self.max_moments}: must be positive")
        if self.unit_seconds is not None and not self.unit_seconds > 0:
            raise ConfigError(f"unit_seconds = {self.unit_seconds}: must be positive, or None")
        if self.suppression not in ("hard", "linear", "gaussian", "none"):
            raise ConfigError(
                f"suppression = {self.suppression!r}: must be hard, linear, gaussian or none"
            )
        if not (0 < self.iou_threshold <= 1 and self.sigma > 0):
            raise ConfigError(
                f"iou_threshold = {self.iou_threshold} must be in (0, 1] and "
                f"sigma = {self.sigma} positive"
            )


@dataclass(frozen=True, eq=False)
class Grounding:
    """Where in a video a query is found.

    `moments` rows are start and end in seconds and a score, best first; none for highlight-only
    models. All of them are scored by the benchmarks; people are shown those of `found`.
    `saliency` is a score per sampled frame. Both compare parts of one video. `video_score`
    compares videos: how well the query fits this one as a whole. Who answers says which score that
    is, and scores of another name or another model mean something else. `caveat` is what people
    must be told beside the answer.
    """

    moments: Float64[np.ndarray, "moments 3"]
    saliency: Float32[np.ndarray, " frames"]
    frame_rate_fps: float
    duration_seconds: float
    video_score: float
    caveat: str | None = None

    def __post_init__(self) -> None:
        for name in ("frame_rate_fps", "duration_seconds"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ConfigError(f"{name} = {getattr(self, name)}: must be positive")
        if not math.isfinite(self.video_score):
            raise ConfigError(f"video_score = {self.video_score}: must be finite")

    def found(self, top: int | None = None) -> Float64[np.ndarray, "found 3"]:
        """Return the best moments that have a length and a score above 0, at most `top` of them.

        The others are suppressed by a better one, or are the whole of a video of which no part
        stands out.
        """
        rows = self.moments
        return rows[(rows[:, 1] > rows[:, 0]) & (rows[:, 2] > 0)][:top]

    def __repr__(self) -> str:
        caveat = f"; {self.caveat}" if self.caveat else ""
        return (
            f"Grounding({len(self.found())} moments, saliency of {len(self.saliency)} frames, "
            f"{self.duration_seconds:g} s at {self.frame_rate_fps:g} fps{caveat})"
        )

    def _repr_html_(self) -> str:
        rows = [
            (f"{start:.1f} - {end:.1f} s", f"score {score:.3f}")
            for start, end, score in self.found(_SHOWN_MOMENTS).tolist()
        ]
        return html_table(repr(self), rows)

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """Return the grounding as `r2t predict --json` prints it, with at most `top` moments."""
        return {
            "duration_seconds": self.duration_seconds,
            "frame_rate_fps": self.frame_rate_fps,
            "video_score": self.video_score,
            "moments": [
                {"start_seconds": start, "end_seconds": end, "score": score}
                for start, end, score in self.found(top).tolist()
            ],
            "saliency": self.saliency.tolist(),
            "caveat": self.caveat,
        }

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each moment that is found, best first."""
        import pandas as pd

        return pd.DataFrame(self.found(), columns=["start_seconds", "end_seconds", "score"])

    def saliency_frame(self) -> pd.DataFrame:
        """Return a row for each sampled frame: the middle of its slot in seconds, and its score."""
        import pandas as pd

        times = (np.arange(len(self.saliency)) + 0.5) / self.frame_rate_fps
        return pd.DataFrame({"time_seconds": times, "saliency": self.saliency})


def decode_predictions(
    predictions: Predictions, batch: Batch, config: DecodeConfig
) -> list[Grounding]:
    """Turn each sample's predictions into its moments and saliency, in the batch's order."""
    return decode_rows(
        predictions,
        batch.num_frames.tolist(),
        batch.frame_rates_fps.tolist(),
        batch.durations_seconds.tolist(),
        config,
    )


def decode_rows(
    predictions: Predictions,
    lengths: list[int],
    frame_rates: list[float],
    durations: list[float],
    config: DecodeConfig,
) -> list[Grounding]:
    """Decode predictions about videos of these lengths in frames, rates in fps and durations."""
    saliency = frame_saliency(predictions, lengths, config)
    moments = raw_moments(predictions, lengths, frame_rates, config.max_moments)
    fits = frame_fit(predictions, lengths)
    return [
        Grounding(
            postprocess(rows, duration, config), scores, frame_rate, duration, video_score(fit)
        )
        for rows, scores, frame_rate, duration, fit in zip(
            moments, saliency, frame_rates, durations, fits, strict=True
        )
    ]


def frame_saliency(
    predictions: Predictions, lengths: list[int], config: DecodeConfig
) -> list[Float32[np.ndarray, " _"]]:
    """Return a score per real frame: the best class probability of any level's cell over it.

    A level of n cells is stretched over T frames by repeating each cell T // n times, not its
    stride, and the last cell to the end, as in the official code.
    """
    probabilities = predictions.class_logits.detach().sigmoid().cpu().numpy()
    cosines = predictions.saliency.detach().cpu().numpy()
    strides = predictions.points.stride.cpu().numpy()
    scores: list[Float32[np.ndarray, " _"]] = []
    for row, num_frames in enumerate(lengths):
        best = np.zeros(num_frames, dtype=np.float32)
        for stride in np.unique(strides):
            cells = probabilities[row, strides == stride][: num_frames // int(stride)]
            if len(cells):
                frame_cell = np.arange(num_frames) // (num_frames // len(cells))
                best = np.maximum(best, cells[np.minimum(frame_cell, len(cells) - 1)])
        scores.append(best * cosines[row, :num_frames] if config.cosine_saliency else best)
    return scores


def raw_moments(
    predictions: Predictions, lengths: list[int], frame_rates_fps: list[float], max_moments: int
) -> list[Float64[np.ndarray, "_ 3"]]:
    """Return the best-scored moments before post-processing; they may stick out of the video."""
    if predictions.offsets is None:
        return [np.zeros((0, 3)) for _ in lengths]
    scores = predictions.class_logits.detach().sigmoid().cpu().double().numpy()
    offsets = predictions.offsets.detach().cpu().double().numpy()
    position = predictions.points.position.cpu().double().numpy()
    stride = predictions.points.stride.cpu().double().numpy()
    starts = position - offsets[..., 0] * stride
    ends = position + offsets[..., 1] * stride
    moments: list[Float64[np.ndarray, "_ 3"]] = []
    for row, (num_frames, frame_rate) in enumerate(zip(lengths, frame_rates_fps, strict=True)):
        inside = position + stride <= num_frames
        rows = np.stack([starts[row] / frame_rate, ends[row] / frame_rate, scores[row]], axis=1)
        moments.append(_sorted(rows[inside])[:max_moments])
    return moments


def postprocess(
    moments: Float64[np.ndarray, "moments 3"],
    duration_seconds: float,
    config: DecodeConfig,
    *,
    undefined_iou: float = 0.0,
) -> Float64[np.ndarray, "moments 3"]:
    """Clamp, round, suppress and sort moments.

    Two equal moments without length have the IoU 0 / 0, taken as `undefined_iou`. The official code
    leaves it NaN, which soft suppression turns into a NaN score that ranks first.
    """
    moments = moments.copy()
    inside = moments[:, 1] < duration_seconds
    moments[:, :2] = moments[:, :2].clip(0, duration_seconds)
    if config.unit_seconds is not None:
        units = np.round(moments[inside, :2] / config.unit_seconds)
        moments[inside, :2] = units * config.unit_seconds
    if config.suppression != "none":
        moments = _suppress(moments, config, undefined_iou)
    return _sorted(moments)


def _suppress(
    moments: Float64[np.ndarray, "moments 3"], config: DecodeConfig, undefined_iou: float
) -> Float64[np.ndarray, "moments 3"]:
    kept = _kept_share(moments, config, undefined_iou)
    scores = moments[:, 2].copy()
    order = np.arange(len(moments))
    for place in range(len(moments)):
        best = place + int(scores[order[place:]].argmax())
        order[[place, best]] = order[[best, place]]
        later = order[place + 1 :]
        scores[later] *= kept[order[place], later]
    return np.column_stack([moments[order, :2], scores[order]])


def _kept_share(
    moments: Float64[np.ndarray, "moments 3"], config: DecodeConfig, undefined_iou: float
) -> Float64[np.ndarray, "moments moments"]:
    """Return the share of its score that the second of two moments keeps beside the first."""
    overlap = moment_iou(moments[:, None], moments, undefined_iou)
    if config.suppression == "hard":
        return np.where(overlap >= config.iou_threshold, 0.0, 1.0)
    if config.suppression == "linear":
        return 1 - overlap
    return np.exp(-(overlap**2) / config.sigma)


def moment_iou(
    moments: Float64[np.ndarray, "*#shape 3"],
    others: Float64[np.ndarray, "*#shape 3"],
    undefined: float = 0.0,
) -> Float64[np.ndarray, "*shape"]:
    """Return the overlap of moments with others, shared by united; 0 / 0 is `undefined`.

    Moments are start, end and anything; all axes but their last are broadcast.
    """
    starts, ends = moments[..., 0], moments[..., 1]
    other_starts, other_ends = others[..., 0], others[..., 1]
    shared = np.minimum(ends, other_ends) - np.maximum(starts, other_starts)
    shared = shared.clip(min=0)
    union = (ends - starts) + (other_ends - other_starts) - shared
    return np.divide(shared, union, out=np.full(np.shape(union), undefined), where=union != 0)


def _sorted(moments: Float64[np.ndarray, "moments 3"]) -> Float64[np.ndarray, "moments 3"]:
    keys = np.nan_to_num(-moments[:, 2], nan=-np.inf)
    return moments[np.argsort(keys, kind="stable")]
