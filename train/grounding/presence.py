"""Is it in the video at all? A threshold on the video score, chosen on known pairs.

It is the score that videos are ranked by, `Grounding.video_score`. How well it tells is measured
with every threshold: one that is not certain to be of use is not used, nor one of another score.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from r2t.store.errors import ConfigError, RunWarning
from r2t.store.files import read_plain, require_plain, write_whole
from r2t.store.legal import is_finite
from r2t.store.schema import PER_VIDEO
from r2t.train.grounding.presence_scores import (
    PresenceScores,
    auc,
    best_threshold,
    held_out,
)
from r2t.train.run import WEIGHTS

PRESENCE = "presence.json"
LEAST_RIGHT = 0.75  # half of a coin's errors
MOST_MISSES = 0.25  # to deny what is there is the worse error, so it has a bound of its own
_MAX_BYTES = 1 << 20  # of that file


@dataclass(frozen=True, kw_only=True)
class PresenceRule:
    """The threshold under which a sentence is probably not in a video, and how well it tells.

    `score` names the video score that the threshold is for, and `frame_rate` is that of the frames
    it was measured on: more frames have better best ones. `recall` is the share of present
    queries that reach the threshold, and `rejected` the share of absent ones that do not.
    `precision` is the share of present queries among all that reach it, if as many are present as
    absent. `auc` is the chance that a present query scores above an absent one. `held_out_right` is
    the mean of `recall` and `rejected` on videos that the threshold was not chosen on.
    `held_out_misses` and `held_out_false_alarms` are the shares there of present queries that are
    called absent, and of absent ones called present. Bounds are those of 95 % intervals over other
    videos.
    """

    score: str
    frame_rate: float | Literal["per-video"]
    threshold: float
    precision: float
    recall: float
    rejected: float
    auc: float
    auc_low: float
    auc_high: float
    held_out_right: float
    held_out_right_low: float
    held_out_right_high: float
    held_out_misses: float
    held_out_misses_low: float
    held_out_misses_high: float
    held_out_false_alarms: float
    held_out_false_alarms_low: float
    held_out_false_alarms_high: float
    num_present: int
    num_absent: int

    @classmethod
    def choose(
        cls, scores: PresenceScores, score: str, frame_rate: float | Literal["per-video"]
    ) -> PresenceRule:
        """Choose the threshold that gets the most of both right, each kind counting half."""
        present, absent = scores.present, scores.absent
        threshold = best_threshold(present, absent)
        recall = float((present >= threshold).mean())
        rejected = float((absent < threshold).mean())
        order = auc(scores)
        spared = held_out(scores)
        return cls(
            score=score,
            frame_rate=frame_rate,
            threshold=threshold,
            precision=recall / (recall + 1 - rejected),
            recall=recall,
            rejected=rejected,
            auc=order.value,
            auc_low=order.low,
            auc_high=order.high,
            held_out_right=spared.right.value,
            held_out_right_low=spared.right.low,
            held_out_right_high=spared.right.high,
            held_out_misses=spared.misses.value,
            held_out_misses_low=spared.misses.low,
            held_out_misses_high=spared.misses.high,
            held_out_false_alarms=spared.false_alarms.value,
            held_out_false_alarms_low=spared.false_alarms.low,
            held_out_false_alarms_high=spared.false_alarms.high,
            num_present=len(present),
            num_absent=len(absent),
        )

    @property
    def shortcoming(self) -> str | None:
        """What was measured and what is asked, where its verdicts are withheld; else None.

        It must be certain to make at most half of a coin's errors, and to deny little that is
        there: both by the bounds of the intervals.
        """
        if self.held_out_right_low >= LEAST_RIGHT and self.held_out_misses_high <= MOST_MISSES:
            return None
        return (
            f"is right for {_percent(self, 'right')} of sentences of videos that it was not chosen "
            f"on, and denies {_percent(self, 'misses')} of those that are there; the intervals "
            f"must stay above {LEAST_RIGHT:.0%} and below {MOST_MISSES:.0%}"
        )

    def denies(self, video_score: float) -> bool:
        """Return whether a query of this video score is probably not in the video."""
        return video_score < self.threshold


def save_rule(run: Path, rule: PresenceRule, facts: Mapping[str, Any]) -> None:
    """Write a rule into a run's folder, bound to the weights it was chosen for."""
    content = {**dataclasses.asdict(rule), **facts, "weights_sha256": _weights_sha256(run)}
    write_whole(run / PRESENCE, json.dumps(content, indent=2) + "\n")


def load_rule(
    run: Path, score: str, frame_rate: float | Literal["per-video"]
) -> PresenceRule | None:
    """Return a run's rule for a video score of frames at a rate, or None if it has none.

    A rule of another score or rate, or for other weights, or one that is not useful, is None with a
    `RunWarning`.
    """
    path = run / PRESENCE
    if not path.exists():
        return None
    names = {field.name for field in dataclasses.fields(PresenceRule)} - {"score", "frame_rate"}
    try:
        content = json.loads(read_plain(path, _MAX_BYTES))
        if content["weights_sha256"] != _weights_sha256(run):
            return _unused(path, "was chosen for other weights than the run has now")
        numbers = {name: content[name] for name in names if name in content}
        if "threshold" not in numbers or not all(map(is_finite, numbers.values())):
            raise TypeError(f"{numbers} are not all numbers, or not finite")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is damaged: {error}; delete it, or run r2t calibrate again"
        ) from error
    if content.get("score") != score:
        return _unused(path, f"{_named(content.get('score'))}, and videos are ranked by {score}")
    if content.get("frame_rate") is None:
        return _unused(path, "does not say which frame rate it is for")
    if content["frame_rate"] != frame_rate:
        why = f"was chosen at --fps {content['frame_rate']}, and here it is {frame_rate}"
        own = content["frame_rate"] == PER_VIDEO
        mend = "search a store of such features" if own else "ask at the rate that it is for"
        return _unused(path, why, mend=mend)
    if numbers.keys() != names:
        return _unused(path, "does not say how well it tells on other videos")
    rule = PresenceRule(score=score, frame_rate=frame_rate, **numbers)
    shortcoming = rule.shortcoming
    return rule if shortcoming is None else _unused(path, shortcoming)


def _named(score: object) -> str:
    return f"is a threshold of the {score}" if score else "does not say which score it is for"


def _percent(rule: PresenceRule, what: str) -> str:
    value, low, high = (getattr(rule, f"held_out_{what}{end}") for end in ("", "_low", "_high"))
    return f"{value:.1%} [{low:.1%}, {high:.1%}]"


def _unused(path: Path, why: str, mend: str = "run r2t calibrate again") -> None:
    warnings.warn(
        f"{path} is not used: it {why}; {mend}, or delete it",
        RunWarning,
        stacklevel=3,
    )


def _weights_sha256(run: Path) -> str:
    require_plain(run / WEIGHTS)
    with (run / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
