"""How sure the ablations are: intervals over seeds and videos, tables, a CSV file and a plot."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablation_study.grid import TABLES
from r2t.train.metrics.bootstrap import Interval

METRICS = {"MR-full-R1@0.5": "R1@0.5", "MR-full-R1@0.7": "R1@0.7", "MR-full-mAP": "mAP"}
SAMPLES = 4000


@dataclass(frozen=True)
class Scores:
    """What a variant scored, per seed and query, in percent; `others` with others' sentences."""

    query_ids: list[str]
    video_ids: list[str]
    metrics: Mapping[str, NDArray[np.float64]]  # [seeds, queries]
    others: Mapping[str, NDArray[np.float64]]

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Scores:
        """Join the files of several seeds."""
        found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]

        def joined(part: str) -> dict[str, NDArray[np.float64]]:
            return {name: np.array([each[part][name] for each in found]) for name in METRICS}

        first = found[0]
        return cls(first["query_ids"], first["video_ids"], joined("metrics"), joined("others"))


class Resamples:
    """Videos drawn anew and errors of seeds, many times, the same for all that is compared.

    Seeds are too few to draw from: of intervals that did, 0.63 to 0.9 held the truth where 0.95
    should. What other seeds would have given is Student's t around the mean instead.
    """

    def __init__(self, video_ids: Sequence[str], num_seeds: int) -> None:
        names, self.video = np.unique(np.asarray(video_ids), return_inverse=True)
        random = np.random.default_rng(0)
        self.videos = random.multinomial(len(names), np.full(len(names), 1 / len(names)), SAMPLES)
        self.errors = random.standard_t(num_seeds - 1, SAMPLES) if num_seeds > 1 else None

    def interval(self, values: NDArray[np.float64], chosen: NDArray[np.bool_] | None = None) -> Any:
        """Return the mean of values [seeds, queries] and its 95 % interval.

        That of a single seed says nothing about others.
        """
        kept = np.ones(values.shape[1], bool) if chosen is None else chosen
        sums = np.zeros(self.videos.shape[1])
        np.add.at(sums, self.video[kept], values[:, kept].mean(axis=0))
        counts = np.bincount(self.video[kept], minlength=self.videos.shape[1])
        means = (self.videos @ sums) / np.maximum(self.videos @ counts, 1)
        if self.errors is not None:
            of_seeds = values[:, kept].mean(axis=1)
            means += self.errors * of_seeds.std(ddof=1) / np.sqrt(len(values))
        low, high = np.quantile(means, (0.025, 0.975))
        return Interval(float(values[:, kept].mean()), float(low), float(high))


def rows(scores: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """Return a row for each place in each table whose variant has been run."""
    default = scores["default"]
    found: list[dict[str, Any]] = []
    for table, variants in TABLES.items():
        for label, key in variants.items():
            if key not in scores:
                continue
            own = scores[key]
            num_seeds = min(len(each.metrics["MR-full-mAP"]) for each in (own, default))
            resamples = Resamples(own.video_ids, num_seeds)
            row: dict[str, Any] = {"table": table, "row": label, "variant": key, "seeds": num_seeds}
            for metric, title in METRICS.items():
                values = own.metrics[metric][:num_seeds]
                row[title] = resamples.interval(values)
                row[f"{title} others' sentences"] = float(own.others[metric].mean())
                row[f"{title} between seeds"] = float(values.mean(axis=1).std(ddof=num_seeds > 1))
                if key != "default":
                    difference = values - default.metrics[metric][:num_seeds]
                    row[f"{title} to default"] = resamples.interval(difference)
            found.append(row)
    return found


def markdown(found: Sequence[Mapping[str, Any]]) -> str:
    """Write the tables: means with intervals, and paired differences to the default."""
    lines: list[str] = []
    sizes = Counter(row["table"] for row in found)
    for table in (table for table, size in sizes.items() if size > 1):
        lines += ["", f"**{table}**", ""]
        lines.append(
            f"| | seeds | {' | '.join(METRICS.values())} | mAP to the default, paired "
            "| others' sentences, mAP |"
        )
        lines.append("| --- |" + " --- |" * 6)
        for row in found:
            if row["table"] != table:
                continue
            means = " | ".join(_bracketed(row[title]) for title in METRICS.values())
            lead = _bracketed(row["mAP to default"], "+") if "mAP to default" in row else ""
            control = row["mAP others' sentences"]
            lines.append(f"| {row['row']} | {row['seeds']} | {means} | {lead} | {control:.1f} |")
    return "\n".join(lines[1:])


def by_group(scores: Mapping[str, Scores], groups: Mapping[str, Sequence[str]]) -> str:
    """Write each variant's mAP on groups of queries; `groups` are those that a query is in."""
    names = sorted({group for each in groups.values() for group in each})
    lines = [f"| | seeds | {' | '.join(names)} |", "| --- | --- |" + " --- |" * len(names)]
    for key, own in scores.items():
        num_seeds = len(own.metrics["MR-full-mAP"])
        resamples = Resamples(own.video_ids, num_seeds)
        cells = [str(num_seeds)]
        for name in names:
            chosen = np.array([name in groups[query_id] for query_id in own.query_ids])
            cells.append(_bracketed(resamples.interval(own.metrics["MR-full-mAP"], chosen)))
        lines.append(f"| {key} | {' | '.join(cells)} |")
    counts = {name: sum(name in each for each in groups.values()) for name in names}
    lines.append(f"| queries | | {' | '.join(str(counts[name]) for name in names)} |")
    return "\n".join(lines)


def write_csv(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write everything that the tables show, and more, a line for each row."""
    flat = [
        {
            name: part
            for key, value in row.items()
            for name, part in (
                [(key, value.value), (f"{key} low", value.low), (f"{key} high", value.high)]
                if isinstance(value, Interval)
                else [(key, value)]
            )
        }
        for row in found
    ]
    names = list(dict.fromkeys(name for row in flat for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(flat)


def plot(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the paired differences in mAP to the default, table by table; of one seed hollow."""
    from matplotlib.figure import Figure

    drawn = [row for row in found if "mAP to default" in row]
    figure = Figure(figsize=(9, 0.3 * len(drawn) + 1.2), layout="constrained")
    axes = figure.subplots()
    tables = list(dict.fromkeys(row["table"] for row in drawn))
    for place, row in enumerate(drawn):
        lead = row["mAP to default"]
        colour = f"C{tables.index(row['table'])}"
        axes.plot([lead.low, lead.high], [place, place], color=colour, linewidth=2)
        inside = "white" if row["seeds"] == 1 else colour
        axes.plot(lead.value, place, "o", color=colour, markerfacecolor=inside)
    axes.axvline(0, color="0.6", linewidth=1)
    axes.set_yticks(range(len(drawn)), [f"{row['table']}: {row['row']}" for row in drawn])
    axes.invert_yaxis()
    axes.set_xlabel("mAP to the default, points")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=150)


def _bracketed(interval: Interval, sign: str = "") -> str:
    return f"{interval.value:{sign}.1f} [{interval.low:{sign}.1f}, {interval.high:{sign}.1f}]"
