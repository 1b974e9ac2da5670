"""What scores of present and of absent queries tell: a threshold, and how far that can be trusted.

The queries of a video are alike, so intervals are over videos: a figure's standard error comes from
what each video adds to it, with Student's t for the number of videos. It is never taken to be less
than that of scores which say nothing, so that a few scores that happen to be in order prove little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from r2t.store.errors import ConfigError
from r2t.train.metrics import Interval

_FOLDS = 5
_NORMAL_97_5 = 1.959964


@dataclass(frozen=True, eq=False)
class PresenceScores:
    """Scores of queries that are in their video and of some that are not, and whose they are.

    Videos are numbers; every video was asked queries of either kind, or of one.
    """

    present: Float64[np.ndarray, " present"]
    absent: Float64[np.ndarray, " absent"]
    present_video: Int64[np.ndarray, " present"]
    absent_video: Int64[np.ndarray, " absent"]

    def __post_init__(self) -> None:
        if not (len(self.present) and len(self.absent)):
            raise ConfigError("a threshold needs queries that are present and some that are not")

    @property
    def videos(self) -> Int64[np.ndarray, " videos"]:
        """The videos that were asked, ascending."""
        return np.union1d(self.present_video, self.absent_video)


def best_threshold(
    present: Float64[np.ndarray, " present"], absent: Float64[np.ndarray, " absent"]
) -> float:
    """Return the score from which to call a query present, so that most of both kinds are right."""
    values = np.unique(np.concatenate([present, absent]))
    # Half-way between neighbours, so that no score lies on the threshold.
    thresholds = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2])
    recall = 1 - np.searchsorted(np.sort(present), thresholds) / len(present)
    passed = 1 - np.searchsorted(np.sort(absent), thresholds) / len(absent)
    return float(thresholds[int(np.argmax(recall - passed))])


def auc(scores: PresenceScores) -> Interval:
    """Return the chance that a present query scores above an absent one; half a tie counts."""
    above = _share_below(scores.absent, scores.present)
    under = 1 - _share_below(scores.present, scores.absent)
    num_present, num_absent = len(above), len(under)
    # The variance of Mann and Whitney's statistic where both kinds score alike.
    variance = (num_present + num_absent + 1) / (12 * num_present * num_absent)
    return _interval(float(above.mean()), scores, above, under, least_variance=variance)


@dataclass(frozen=True)
class HeldOut:
    """How often a threshold is right on videos that it was not chosen on.

    `right` is the mean over both kinds, so that calling everything present is right for half.
    `misses` is the share of present queries that are called absent, `false_alarms` that of absent
    ones that are called present.
    """

    right: Interval
    misses: Interval
    false_alarms: Interval


def held_out(scores: PresenceScores) -> HeldOut:
    """Deal videos out in turn, and answer those of each share with the threshold of the others."""
    hits, rejections = np.zeros(len(scores.present)), np.zeros(len(scores.absent))
    videos = scores.videos
    for fold in range(min(_FOLDS, len(videos))):
        spared = videos[fold::_FOLDS]
        present = np.isin(scores.present_video, spared)
        absent = np.isin(scores.absent_video, spared)
        if present.all() or absent.all():  # nothing to choose from: everything is called present
            hits[present] = 1
            continue
        threshold = best_threshold(scores.present[~present], scores.absent[~absent])
        hits[present] = scores.present[present] >= threshold
        rejections[absent] = scores.absent[absent] < threshold
    value = float(hits.mean() + rejections.mean()) / 2
    variance = (1 / len(hits) + 1 / len(rejections)) / 16
    misses, alarms = 1 - hits, 1 - rejections
    nobody = np.zeros_like(hits), np.zeros_like(rejections)
    return HeldOut(
        _interval(value, scores, hits / 2, rejections / 2, least_variance=variance),
        _share(scores, misses, nobody[1], len(misses)),
        _share(scores, nobody[0], alarms, len(alarms)),
    )


def _share(
    scores: PresenceScores,
    of_present: Float64[np.ndarray, " present"],
    of_absent: Float64[np.ndarray, " absent"],
    num_answers: int,
) -> Interval:
    """Return the share of one kind that was answered wrongly; that none was proves little."""
    # As if two of four more answers were wrong (Agresti and Coull): about 3 / n above none of n.
    seen = 2 / (num_answers + 4)
    value = float(of_present.mean() + of_absent.mean())
    variance = seen * (1 - seen) / (num_answers + 4)
    return _interval(value, scores, of_present, of_absent, least_variance=variance)


def _share_below(
    some: Float64[np.ndarray, " some"], scores: Float64[np.ndarray, " scores"]
) -> Float64[np.ndarray, " scores"]:
    """Return for each score the share of others under it; equal ones count half."""
    ordered = np.sort(some)
    below = np.searchsorted(ordered, scores, side="left")
    until = np.searchsorted(ordered, scores, side="right")
    return (below + until) / (2 * len(some))


def _interval(
    value: float,
    scores: PresenceScores,
    of_present: Float64[np.ndarray, " present"],
    of_absent: Float64[np.ndarray, " absent"],
    *,
    least_variance: float,
) -> Interval:
    """Return a figure with its 95 % interval, given what each query adds to either kind's mean."""
    videos = scores.videos
    added = np.zeros(len(videos))
    for which, parts in ((scores.present_video, of_present), (scores.absent_video, of_absent)):
        np.add.at(added, np.searchsorted(videos, which), (parts - parts.mean()) / len(parts))
    if len(videos) < 2:
        return Interval(value, 0.0, 1.0)
    variance = len(videos) / (len(videos) - 1) * float((added**2).sum())
    margin = _student_97_5(len(videos) - 1) * math.sqrt(max(variance, least_variance))
    return Interval(value, max(0.0, value - margin), min(1.0, value + margin))


def _student_97_5(degrees: int) -> float:
    """Return Student's t that 97.5 % lie under: exact for 1 and 2 degrees, else within 1 %."""
    if degrees == 1:
        return math.tan(math.pi * 0.475)
    if degrees == 2:
        return 0.95 / math.sqrt(2 * 0.975 * 0.025)
    z = _NORMAL_97_5
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, start=1))
