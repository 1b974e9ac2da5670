"""Answers as a piece of a page: the saliency curve and the moments of each, to click on.

Every text that a person typed is escaped. The style and the script are `assets/serve.css` and
`assets/serve.js`; what they look for begins with `r2t-`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from r2t.cli.plots import minutes, span
from r2t.cli.verdict import presence_json, verdict
from r2t.store.json_lines import as_utf8, to_json

if TYPE_CHECKING:
    from r2t.train.decode import Grounding
    from r2t.train.presence import PresenceRule

CURVE_HEIGHT = 100.0
NUM_TICKS = 4


@dataclass(frozen=True)
class Answer:
    """A sentence, where it was found, the seconds that took, and whether it is there at all."""

    query: str
    grounding: Grounding
    seconds: float
    rule: PresenceRule | None = None


def answers_json(video: str, answers: Sequence[Answer]) -> dict[str, Any]:
    """Return answers as JSON values, in the order they were given."""
    return {
        "video": video,
        "answers": [
            {
                "query": each.query,
                **each.grounding.to_dict(),
                "presence": presence_json(each.rule, each.grounding),
            }
            for each in answers
        ],
    }


def answers_html(video: str, answers: Sequence[Answer], top: int) -> str:
    """Lay out answers, newest first, with the link that saves them all as JSON."""
    if not answers:
        return ""
    content = to_json(answers_json(video, answers), indent=2)
    data = base64.b64encode(content.encode()).decode()
    link = (
        f'<a class="r2t-download" download="{escape(as_utf8(video))}.json" '
        f'href="data:application/json;base64,{data}">Download JSON</a>'
    )
    return link + "".join(_card(answer, top) for answer in reversed(answers))


def _card(answer: Answer, top: int) -> str:
    grounding = answer.grounding
    duration = grounding.duration_seconds
    moments = [(*row,) for row in grounding.moments[:top].tolist() if row[2] > 0]
    bars = "".join(
        f'<button type="button" class="r2t-bar" data-rank="{rank}" data-r2t-start="{start:.3f}" '
        f'style="left:{100 * start / duration:.3f}%;width:{100 * (end - start) / duration:.3f}%" '
        f'title="{span(start, end)}, score {score:.2f}">{rank}</button>'
        for rank, (start, end, score) in enumerate(moments, start=1)
    )
    rows = "".join(
        f'<li><button type="button" data-rank="{rank}" data-r2t-start="{start:.3f}">'
        f"<b>{rank}</b>{span(start, end)}</button><span>{score:.2f}</span></li>"
        for rank, (start, end, score) in enumerate(moments, start=1)
    )
    ticks = "".join(
        f"<span>{minutes(duration * place / NUM_TICKS)}</span>" for place in range(NUM_TICKS + 1)
    )
    absent = verdict(answer.rule, grounding)
    denial = f'<p class="r2t-absent">{escape(absent)}</p>' if absent else ""
    found = f"<ol>{rows}</ol>" if rows else "<p>no moment was found; see the curve</p>"
    return (
        f'<article class="r2t-answer"><h3>{escape(answer.query)}</h3>'
        f'<p class="r2t-took">answered in {answer.seconds:.2f} s; click a moment to play it</p>'
        f"{denial}"
        f'<div class="r2t-line" data-r2t-duration="{duration:.3f}">'
        f'<svg viewBox="0 0 1 {CURVE_HEIGHT:g}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="{_curve(grounding)}"/></svg>'
        f'<div class="r2t-bars">{bars}</div><i class="r2t-playhead"></i></div>'
        f'<div class="r2t-ticks">{ticks}</div>{found}</article>'
    )


def _curve(grounding: Grounding) -> str:
    """Draw saliency as an area from its lowest to its highest, over a width of 1."""
    scores = grounding.saliency.astype(np.float64)
    low, high = float(scores.min()), float(scores.max())
    heights = (scores - low) / (high - low) if high > low else np.full(len(scores), 0.5)
    slot = 1 / (grounding.frame_rate_fps * grounding.duration_seconds)
    centres = np.clip((np.arange(len(scores)) + 0.5) * slot, 0, 1)
    times = [0.0, *centres.tolist(), 1.0]
    levels = [heights[0], *heights.tolist(), heights[-1]]
    points = " ".join(
        f"L{time:.5f} {CURVE_HEIGHT * (1 - 0.94 * level):.2f}"
        for time, level in zip(times, levels, strict=True)
    )
    return f"M0 {CURVE_HEIGHT:g} {points} L1 {CURVE_HEIGHT:g} Z"
