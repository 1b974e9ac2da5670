"""Whether a sentence is in a video at all, in the words that every command uses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import r2t.train.grounding
from r2t.train import model

ABSENT = "probably not in this video"


def presence_verdict(
    rule: r2t.train.grounding.PresenceRule | None, grounding: model.Grounding
) -> str | None:
    """Say that a sentence is probably not in the video, and why; None if it may be there."""
    score = grounding.video_score
    if rule is None or not rule.denies(score):
        return None
    return f"{ABSENT} ({rule.score} {score:.3f} < {rule.threshold:.3f})"


def with_verdict(
    rule: r2t.train.grounding.PresenceRule | None, grounding: model.Grounding
) -> model.Grounding:
    """Return a grounding whose caveat begins with the verdict, for a file that stands alone."""
    told = filter(None, (presence_verdict(rule, grounding), grounding.caveat))
    return replace(grounding, caveat="; ".join(told) or None)


def presence_json(
    rule: r2t.train.grounding.PresenceRule | None, grounding: model.Grounding
) -> dict[str, Any]:
    """Return the verdict as JSON values; without a rule there is none."""
    score = grounding.video_score
    return {
        "score": score,
        "threshold": None if rule is None else rule.threshold,
        "probably_absent": None if rule is None else rule.denies(score),
    }
