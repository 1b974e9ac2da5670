"""The report page: one HTML file that carries its data, style and program, and fetches nothing.

Sentences and ids are untrusted: they are carried as JSON that cannot close its element, the page
only ever sets them as text, and its content security policy runs no script but our own.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

import r2t.train.metrics
from r2t.cli.answers import highest_of_parts, nothing_found
from r2t.train import model

MAX_CURVE_POINTS = 300
QUERY_SCORES = {  # per-query metric → its short name in the page
    "MR-full-mAP": "ap",
    "MR-full-mIoU": "iou",
    "HL-min-VeryGood-mAP": "highlights",
}
_CURVE_STEPS = 255
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


def query_entry(
    grounding: model.Grounding,
    *,
    query_id: str,
    video_id: str,
    query: str,
    top: int,
    truth: NDArray[np.float64] | None = None,
    scores: Mapping[str, float] | None = None,
    verdict: str | None = None,
) -> dict[str, Any]:
    """Describe a query for the page: its `top` best moments, true moments, saliency and scores.

    `scores` are in percent, under the page's names; what is not finite is left out. `verdict` says
    that the sentence is probably not in the video.
    """
    return {
        "id": query_id,
        "video": video_id,
        "query": query,
        "truth": [] if truth is None else _rounded(truth),
        "moments": _rounded(grounding.found(top)),
        "nothing": nothing_found(grounding),
        "curve": _curve(grounding),
        "verdict": verdict,
        "scores": {
            name: round(value, 2) for name, value in (scores or {}).items() if np.isfinite(value)
        },
    }


def _rounded(rows: NDArray[np.float64]) -> list[list[float]]:
    # Scores near 0 need more digits than times do.
    return [
        [*(round(second, 2) for second in row[:2]), *(float(f"{score:.3g}") for score in row[2:])]
        for row in rows.tolist()
    ]


def _curve(grounding: model.Grounding) -> dict[str, Any]:
    """Write a saliency curve in steps between its extremes; of long ones the highest points."""
    extent = len(grounding.saliency) / grounding.frame_rate_fps
    scores = highest_of_parts(grounding.saliency, MAX_CURVE_POINTS)
    low, high = float(scores.min()), float(scores.max())
    steps = np.round((scores - low) * (_CURVE_STEPS / (high - low) if high > low else 0.0))
    return {
        "steps": steps.astype(int).tolist(),
        "low": float(f"{low:.3g}"),
        "high": float(f"{high:.3g}"),
        "seconds": round(extent, 3),
    }


def per_query_scores(scores: r2t.train.metrics.QueryScores) -> dict[str, dict[str, float]]:
    """Return the page's scores of each query, in percent, by query id."""
    metrics = scores.metrics()
    shown = {short: metrics[name] for name, short in QUERY_SCORES.items() if name in metrics}
    return {
        query_id: {name: float(column[place]) for name, column in shown.items()}
        for place, query_id in enumerate(scores.query_ids)
    }


def breakdown_table(
    groups: Sequence[r2t.train.metrics.Group], columns: Sequence[str]
) -> dict[str, Any]:
    """Lay out scores by length, a row for each group."""
    return {
        "title": "Moments, by their length and by the length of the sentence",
        "columns": list(columns),
        "notes": list(_count_notes(groups)),
        "rows": [
            {
                "name": group.name,
                "kind": group.kind,
                "queries": group.num_queries,
                "cells": [_cell(group.intervals.get(column)) for column in columns],
            }
            for group in groups
        ],
    }


def _count_notes(groups: Sequence[r2t.train.metrics.Group]) -> Iterator[str]:
    """Explain counts that do not add up to the number of queries."""
    [every] = [group.num_queries for group in groups if group.kind == "all"]
    by_length = [group.num_queries for group in groups if group.kind == "moment length"]
    if sum(by_length) > every:
        yield (
            f"{' + '.join(f'{count:,}' for count in by_length)} is more than {every:,}: a query "
            "with moments of several lengths counts in each of their rows, with those moments "
            "alone."
        )


def metrics_table(
    title: str, values: Mapping[str, r2t.train.metrics.Interval | float]
) -> dict[str, Any]:
    """Lay out metrics in percent, a row each."""
    return {
        "title": title,
        "columns": ["percent"],
        "rows": [
            {"name": name, "kind": "metric", "cells": [_cell(value)]}
            for name, value in values.items()
        ],
    }


def _cell(found: r2t.train.metrics.Interval | float | None) -> list[float] | None:
    """Return a value in percent, followed by the ends of its interval if that is known."""
    if found is None:
        return None
    if isinstance(found, int | float):
        return [round(found, 2)]
    return [round(number, 2) for number in (found.value, found.low, found.high)]


def render_page(data: Mapping[str, Any], *, title: str, media_sources: Sequence[str] = ()) -> str:
    """Return the HTML of a page; `media_sources` are where it may play videos from."""
    assets = files("r2t.cli.pages") / "assets"

    def read(*names: str) -> str:
        return "\n".join((assets / name).read_text(encoding="utf-8") for name in names)

    style = read("timeline.css", "report.css")
    script = read("timeline.js", "player.js", "report.js")
    media = " ".join(media_sources) or "'none'"
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        f"media-src {media}; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": html.escape(policy, quote=True),
        "title": html.escape(title),
        "style": style,
        "script": script,
        "data": json_for_html(data),
    }
    # One pass, so that nothing in the data is taken for a placeholder.
    return _PLACEHOLDER.sub(lambda match: parts[match[1]], read("report.html"))


def json_for_html(value: Any) -> str:
    """Write JSON that holds no markup, whatever its texts are."""
    text = json.dumps(
        value, separators=(",", ":"), allow_nan=False
    )  # ASCII, so lone surrogates too
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
