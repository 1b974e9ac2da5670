"""Answers as part of a page: a timeline for each, and what can be downloaded.

Every text that a person typed is escaped. `assets/serve.js` draws the timelines from the data that
this leaves in attributes; what it looks for begins with `r2t-`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import r2t.train.grounding
from r2t.cli.answers import nothing_found, presence_json, presence_verdict, subtitles, with_verdict
from r2t.cli.pages.report import query_entry
from r2t.store.json_lines import as_utf8, to_json
from r2t.train import model


@dataclass(frozen=True)
class Answer:
    """A sentence, where it was found, the seconds that took, and whether it is there at all."""

    query: str
    grounding: model.Grounding
    seconds: float
    rule: r2t.train.grounding.PresenceRule | None = None


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
    link = _download(content, "application/json", f"{video}.json", "Download JSON")
    cards = [_card(video, place, answer, top) for place, answer in enumerate(answers)]
    return f'<p class="r2t-all">{link}</p>' + "".join(reversed(cards))


def _card(video: str, place: int, answer: Answer, top: int) -> str:
    grounding, query = answer.grounding, as_utf8(answer.query)
    entry = query_entry(grounding, query_id="", video_id=video, query=answer.query, top=top)
    data = escape(to_json(entry))
    nothing = nothing_found(grounding)
    if nothing is None:
        text = subtitles(with_verdict(answer.rule, grounding), query, top)
        name = f"{video} {place + 1}.srt"
        after = _download(text, "application/x-subrip", name, "Download subtitles")
    else:
        after = escape(nothing)
    absent = presence_verdict(answer.rule, answer.grounding)
    remarks = [each for each in (absent, grounding.caveat) if each]
    shown = "".join(f'<p class="r2t-remark">{escape(each)}</p>' for each in remarks)
    return (
        f'<article class="r2t-answer"><h3 dir="auto">{escape(query)}</h3>'
        f'<p class="r2t-took">answered in {answer.seconds:.2f} s; click a moment to play it</p>'
        f"{shown}"
        f'<div class="r2t-timeline" data-r2t-answer="{place}" '
        f'data-r2t-seconds="{grounding.duration_seconds}" data-r2t-query="{data}"></div>'
        f'<p class="r2t-after">{after}</p></article>'
    )


def _download(content: str, kind: str, name: str, title: str) -> str:
    data = base64.b64encode(content.encode()).decode()
    return (
        f'<a class="r2t-download" download="{escape(as_utf8(name))}" '
        f'href="data:{kind};base64,{data}">'
        f"{title}</a>"
    )
