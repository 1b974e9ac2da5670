"""How the demo shows what its answers are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from r2t.cli.commands.demo.scores import ScoredMethod
from r2t.cli.shared import cell
from r2t.train import metrics

METRIC_TITLES = {"MR-full-R1@0.5": "R1@0.5", "MR-full-R1@0.7": "R1@0.7", "MR-full-mAP": "mAP"}


def scores_as_json(methods: Sequence[ScoredMethod]) -> dict[str, Any]:
    """Return scores, R²-Tuning's lead and mAP by kind of query."""
    return {
        "scores": {each.name: _intervals(each.scores) for each in methods},
        "lead": {each.name: _intervals(each.lead) for each in methods if each.lead},
        "mAP_by_kind": {
            each.name: {kind: round(value, 2) for kind, value in each.by_kind.items()}
            for each in methods
        },
    }


def _intervals(intervals: Mapping[str, metrics.Interval]) -> dict[str, Any]:
    return {
        METRIC_TITLES[metric]: {
            "value": round(interval.value, 2),
            "interval": [round(interval.low, 2), round(interval.high, 2)],
        }
        for metric, interval in intervals.items()
    }


def score_tables(methods: Sequence[ScoredMethod], num_videos: int) -> list[Table]:
    """Return what `scores_as_json` does as tables that fit a terminal of 80 columns."""
    scores = _table(f"{num_videos} unseen videos, percent", list(METRIC_TITLES.values()))
    lead = _table("lead of R²-Tuning", ["", "lead", "95 % interval"])
    kinds = _table("mAP by what the sentence is about", list(methods[0].by_kind))
    for each in methods:
        scores.add_row(*map(cell, [each.name, *(f"{i.value:.1f}" for i in each.scores.values())]))
        kinds.add_row(*map(cell, [each.name, *(f"{v:.1f}" for v in each.by_kind.values())]))
        name = each.name
        for metric, found in (each.lead or {}).items():
            interval = f"{found.low:+.1f} … {found.high:+.1f}"
            lead.add_row(*map(cell, [name, METRIC_TITLES[metric], f"{found.value:+.1f}", interval]))
            name = ""
    return [scores, lead, kinds]


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table("", title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    return table
