"""What people are told where no moment of a video fits a sentence."""

from __future__ import annotations

from r2t.train import model


def nothing_found(grounding: model.Grounding) -> str | None:
    """Say that no moment was found, and why; None if one was."""
    if len(grounding.found()):
        return None
    if not len(grounding.moments):
        return "this model scores frames and finds no moments: see the saliency"
    return "no moment was found: no part of the video stands out for this sentence"
