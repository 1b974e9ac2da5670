"""Scores laid out for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table

RANGES = ("full", "short", "middle", "long")
RANGE_COLUMNS = (
    *(("MR-R1", threshold) for threshold in ("0.3", "0.5", "0.7")),
    *(("MR-R5", threshold) for threshold in ("0.5", "0.7")),
    *(("MR-mAP", threshold) for threshold in ("0.5", "0.75", "average")),
)


def lay_out_scores(scores: Mapping[str, Any]) -> list[RenderableType]:
    """Lay out the scores of `r2t eval`, in percent."""
    if "mAP" in scores:
        return [_domain_table(scores)]
    tables: list[RenderableType] = []
    if "full" in scores:
        tables.append(_moment_table(scores))
    levels = {name: values for name, values in scores.items() if name.startswith("HL-min-")}
    if levels:
        table = _table("highlights", "mAP", "Hit1")
        for name, values in levels.items():
            table.add_row(
                name.removeprefix("HL-min-"), _number(values["HL-mAP"]), _number(values["HL-Hit1"])
            )
        tables.append(table)
    if "intervals" in scores:
        table = _table("95 % intervals over videos", "score", "low", "high")
        for name, (low, high) in scores["intervals"].items():
            table.add_row(name, _number(scores["brief"][name]), _number(low), _number(high))
        tables.append(table)
    return tables


def _moment_table(scores: Mapping[str, Any]) -> Table:
    heads = [f"{key.removeprefix('MR-')}@{threshold[1:]}" for key, threshold in RANGE_COLUMNS[:-1]]
    table = _table("moments", *heads, "mAP", "mIoU")
    for name in RANGES:
        values = scores[name]
        if values is None:
            table.add_row(name, *["-"] * (len(RANGE_COLUMNS) + 1))
        else:
            cells = [values[key][threshold] for key, threshold in RANGE_COLUMNS]
            table.add_row(name, *map(_number, [*cells, values["MR-mIoU"]]))
    return table


def _domain_table(scores: Mapping[str, Any]) -> Table:
    table = _table("highlights", "mAP", "videos")
    for name, values in scores.get("domains", {"": scores}).items():
        table.add_row(name, _number(100 * values["mAP"]), str(values["num_videos"]))
    if "domains" in scores:
        table.add_section()
        table.add_row("mean", _number(100 * scores["mAP"]), "")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),  # ten columns on a terminal of eighty
    )
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
