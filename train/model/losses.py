"""Losses: classification, boundary, saliency, and calibration across videos and layers.

If a batch has nothing for a term to learn from (no positive point, no positive frame), the term is
0 and so is its gradient. The official code divides by zero there, and takes the `column` softmax
over frames that may be masked in every sample, whose gradient is NaN while the loss is finite; here
it is taken over positive frames alone, which leaves the loss the same.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from r2t.store.errors import ConfigError
from r2t.train.choices import Recipe
from r2t.train.data import NO_POSITIVE, Targets, mask_of
from r2t.train.model.model import Predictions
from r2t.train.model.pyramid import PyramidPoints

_NOT_COUNTED = -100  # a target
CENTRE_RADIUS = 1.5  # a point matches a moment within this many strides of its centre


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights and variants of the losses; the defaults are the paper's for moment retrieval.

    The paper and its released code differ: `recipe` names whose numbers these are. The code has no
    `focal_alpha` and a boundary weight of 0.2. `classification` "saliency" trains the class logits
    on saliency itself (highlight-only tasks) and leaves `boundary_weight` unused. `contrast`
    "row+column" adds to the contrast of a query's frames the one of each positive frame across the
    batch.
    """

    recipe: Recipe = "paper"
    classification: Literal["focal", "saliency"] = "focal"
    contrast: Literal["row", "row+column"] = "row+column"
    focal_alpha: float | None = 0.9
    focal_gamma: float = 2.0
    classification_weight: float = 1.0
    boundary_weight: float = 0.1
    saliency_weight: float = 0.1
    video_weight: float = 0.1
    layer_weight: float = 0.1
    temperature: float = 0.07

    def __post_init__(self) -> None:
        for name, legal in (
            ("recipe", ("paper", "official")),
            ("classification", ("focal", "saliency")),
            ("contrast", ("row", "row+column")),
        ):
            if getattr(self, name) not in legal:
                raise ConfigError(f"{name} = {getattr(self, name)!r}: must be one of {legal}")
        if self.focal_alpha is not None and not 0 < self.focal_alpha < 1:
            raise ConfigError(f"focal_alpha = {self.focal_alpha}: give a number in (0, 1) or None")
        for field in dataclasses.fields(self):
            if field.name.endswith("_weight") and not getattr(self, field.name) >= 0:
                raise ConfigError(
                    f"{field.name} = {getattr(self, field.name)}: must not be negative"
                )
        if not (self.temperature > 0 and self.focal_gamma >= 0):
            raise ConfigError(
                f"temperature = {self.temperature} must be positive and "
                f"focal_gamma = {self.focal_gamma} not negative"
            )


@dataclass(frozen=True, eq=False)
class Losses:
    """Terms of the loss, each already weighted; `boundary` is None without a boundary head."""

    classification: Float32[Tensor, ""]
    boundary: Float32[Tensor, ""] | None
    saliency: Float32[Tensor, ""]
    video_calibration: Float32[Tensor, ""]
    layer_calibration: Float32[Tensor, ""]

    @property
    def total(self) -> Float32[Tensor, ""]:
        """Sum of the terms: what to minimise."""
        return torch.stack(list(self.terms().values())).sum()

    def terms(self) -> dict[str, Tensor]:
        """Return the terms that this task has, by name."""
        terms = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: term for name, term in terms.items() if term is not None}


def compute_losses(predictions: Predictions, targets: Targets, config: LossConfig) -> Losses:
    """Compare predictions with targets, in float32 whatever autocast says."""
    with torch.autocast(predictions.class_logits.device.type, enabled=False):
        matches = match_points(predictions.points, predictions.matching_points, targets)
        if config.classification == "focal":
            classification = _focal(predictions, matches.positive, config)
        else:
            classification = _saliency_classification(predictions, targets)
        boundary = None
        if predictions.offsets is not None:
            boundary = config.boundary_weight * _boundary(predictions.offsets, matches)
        saliency, video, layer = _contrasts(predictions, targets, config)
        return Losses(
            classification=config.classification_weight * classification,
            boundary=boundary,
            saliency=config.saliency_weight * saliency,
            video_calibration=config.video_weight * video,
            layer_calibration=config.layer_weight * layer,
        )


@dataclass(frozen=True, eq=False)
class Matches:
    """Which points answer for a moment, and their offsets to its ends in strides."""

    positive: Bool[Tensor, "batch points"]
    offsets: Float[Tensor, "batch points 2"]


def match_points(
    points: PyramidPoints, matching_points: Bool[Tensor, "batch points"], targets: Targets
) -> Matches:
    """Assign moments to points: inside, near the centre, and of the size the level is for.

    Of several moments the shortest wins. Only `matching_points` are assigned any.
    """
    position, stride = points.position[:, None], points.stride[:, None]
    start, end = targets.moments[:, None].unbind(-1)
    before, after = position - start, end - position
    radius = CENTRE_RADIUS * stride
    centre = (start + end) / 2
    inside = torch.minimum(
        position - torch.maximum(centre - radius, start),
        torch.minimum(centre + radius, end) - position,
    )
    farther_end = torch.maximum(before, after)
    matching = (
        (inside >= 0)
        & (farther_end >= points.min_offset[:, None])
        & (farther_end <= points.max_offset[:, None])
        & matching_points[..., None]
        & mask_of(targets.num_moments, targets.moments.shape[1])[:, None]
    )
    lengths = (end - start).masked_fill(~matching, math.inf)
    shortest = lengths.argmin(dim=-1, keepdim=True)
    offsets = torch.stack([before.gather(-1, shortest), after.gather(-1, shortest)], dim=-1)
    return Matches(matching.any(dim=-1), offsets.squeeze(-2) / stride)


def _focal(predictions: Predictions, positive: Tensor, config: LossConfig) -> Tensor:
    labels = positive.float()
    cross_entropy = F.binary_cross_entropy_with_logits(
        predictions.class_logits, labels, reduction="none"
    )
    probability = predictions.class_logits.sigmoid()
    miss = torch.where(positive, 1 - probability, probability)
    loss = cross_entropy * miss**config.focal_gamma
    if config.focal_alpha is not None:
        loss = loss * torch.where(positive, config.focal_alpha, 1 - config.focal_alpha)
    return (loss * predictions.point_mask).sum() / predictions.point_mask.sum()


def _saliency_classification(predictions: Predictions, targets: Targets) -> Tensor:
    loss = F.binary_cross_entropy_with_logits(
        predictions.class_logits, targets.saliency, reduction="none"
    )
    return (loss * predictions.frame_mask).sum() / predictions.frame_mask.sum()


def _boundary(offsets: Tensor, matches: Matches) -> Tensor:
    distance = (offsets - matches.offsets).abs().mean(dim=-1)
    distance = distance.masked_fill(~matches.positive, 0)
    return distance.sum() / matches.positive.sum().clamp(min=1)


def _contrasts(
    predictions: Predictions, targets: Targets, config: LossConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Return saliency, video and layer contrast over the samples that have a positive frame.

    The others keep their places and count for nothing, since to pick the rest out of a table a GPU
    would make the host wait.
    """
    counted = targets.positive_frame != NO_POSITIVE
    positive = targets.positive_frame.clamp(min=0)
    samples = torch.arange(len(counted), device=counted.device)
    logits = _comparable_logits(predictions, targets, positive, config.temperature)
    saliency = _cross_entropy(logits, positive, counted)
    if config.contrast == "row+column":
        columns = logits[:, positive].T.masked_fill(~counted, -math.inf)
        saliency = saliency + _cross_entropy(columns, samples, counted)
    frames = F.normalize(predictions.layer_frames[:, samples, positive], dim=-1)
    queries = F.normalize(predictions.layer_queries, dim=-1)
    by_layer = counted.expand(len(frames), -1)
    video = _info_nce(frames, queries, by_layer, config.temperature)
    layer = _info_nce(
        frames.transpose(0, 1), queries.transpose(0, 1), by_layer.T, config.temperature
    )
    return saliency, video, layer


def _cross_entropy(
    logits: Float[Tensor, "rows choices"], target: Tensor, counted: Bool[Tensor, " rows"]
) -> Tensor:
    """Return the mean over the rows that are counted, 0 without any.

    The others get numbers first: where every choice is -inf the gradient is NaN, counted or not.
    """
    logits = logits.masked_fill(~counted[:, None], 0)
    target = target.masked_fill(~counted, _NOT_COUNTED)
    total = F.cross_entropy(logits, target, ignore_index=_NOT_COUNTED, reduction="sum")
    return total / counted.sum().clamp(min=1)


def _comparable_logits(
    predictions: Predictions, targets: Targets, positive: Tensor, temperature: float
) -> Tensor:
    """Return [batch, frames] cosines over temperature, -inf where a frame must not compete.

    Frames more salient than the positive one are no negatives; equally salient ones are. Column t_b
    of this table holds frame t_b of every video, each compared with its *own* query: the official
    code contrasts these, and not one query with all videos as the paper reads.
    """
    level = targets.saliency.gather(1, positive[:, None])
    comparable = (targets.saliency <= level) & predictions.frame_mask
    return (predictions.saliency / temperature).masked_fill(~comparable, -math.inf)


def _info_nce(
    frames: Float[Tensor, "groups n hidden"],
    queries: Float[Tensor, "groups n hidden"],
    counted: Bool[Tensor, "groups n"],
    temperature: float,
) -> Tensor:
    """Match frame i with query i among those of the n of each group that count, in both directions.

    As rows of one table: over more axes a GPU adds up the loss in any order.
    """
    logits = frames @ queries.transpose(1, 2) / temperature
    target = torch.arange(logits.shape[1], device=logits.device).repeat(len(logits))
    rows = counted.flatten()
    losses = [
        _cross_entropy(table.masked_fill(~counted[:, None], -math.inf).flatten(0, 1), target, rows)
        for table in (logits, logits.transpose(1, 2))
    ]
    return (losses[0] + losses[1]) / 2
