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
from ablation_grid import TABLES
from numpy.typing import NDArray

from r2t.train.metrics_bootstrap import Interval

METRICS = {"MR-full-R1@0.5": "R1@0.5", "MR-full-R1@0.7": "R1@0.7", "MR-full-mAP": "mAP"}
SAMPLES = 4000
# Student's t at 97.5 % with 1, 2, … degrees of freedom; the last serves all above it.
STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
NORMAL = 1.960


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
    """Videos and seeds drawn anew many times, the same for all that is compared."""

    def __init__(self, video_ids: Sequence[str], num_seeds: int) -> None:
        names, self.video = np.unique(np.asarray(video_ids), return_inverse=True)
        random = np.random.default_rng(0)
        self.videos = random.multinomial(len(names), np.full(len(names), 1 / len(names)), SAMPLES)
        self.seeds = random.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), SAMPLES)

    def interval(self, values: NDArray[np.float64], chosen: NDArray[np.bool_] | None = None) -> Any:
        """Return the mean of values [seeds, queries] and its 95 % interval.

        Drawing from a few seeds shows too little of how seeds differ (0.63 to 0.9 of such intervals
        held the truth where 0.95 should), so they are set apart first, as Student's t would. The
        interval of a single seed says nothing about others.
        """
        kept = np.ones(values.shape[1], bool) if chosen is None else chosen
        of_seeds = values[:, kept].mean(axis=1, keepdims=True)
        values = values + (_widening(len(values)) - 1) * (of_seeds - of_seeds.mean())
        sums = np.zeros((self.videos.shape[1], len(values)))
        np.add.at(sums, self.video[kept], values[:, kept].T)
        counts = np.bincount(self.video[kept], minlength=self.videos.shape[1])
        means = (self.videos @ sums * self.seeds).sum(axis=1)
        means /= np.maximum(self.videos @ counts, 1) * len(values)
        low, high = np.quantile(means, (0.025, 0.975))
        return Interval(float(values[:, kept].mean()), float(low), float(high))


def _widening(num_seeds: int) -> float:
    """By how much a bootstrap of so few seeds makes their differences too small."""
    if num_seeds == 1:
        return 1.0
    quantile = STUDENT_T[min(num_seeds - 1, len(STUDENT_T)) - 1]
    return quantile / NORMAL * float(np.sqrt(num_seeds / (num_seeds - 1)))


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
    lines = [f"| | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    for key, own in scores.items():
        resamples = Resamples(own.video_ids, len(own.metrics["MR-full-mAP"]))
        cells = []
        for name in names:
            chosen = np.array([name in groups[query_id] for query_id in own.query_ids])
            cells.append(_bracketed(resamples.interval(own.metrics["MR-full-mAP"], chosen)))
        lines.append(f"| {key} | {' | '.join(cells)} |")
    counts = {name: sum(name in each for each in groups.values()) for name in names}
    lines.append(f"| queries | {' | '.join(str(counts[name]) for name in names)} |")
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
    """Draw the paired differences in mAP to the default, table by table."""
    from matplotlib.figure import Figure

    drawn = [row for row in found if "mAP to default" in row]
    figure = Figure(figsize=(9, 0.3 * len(drawn) + 1.2), layout="constrained")
    axes = figure.subplots()
    tables = list(dict.fromkeys(row["table"] for row in drawn))
    for place, row in enumerate(drawn):
        lead = row["mAP to default"]
        colour = f"C{tables.index(row['table'])}"
        axes.plot([lead.low, lead.high], [place, place], color=colour, linewidth=2)
        axes.plot(lead.value, place, "o", color=colour)
    axes.axvline(0, color="0.6", linewidth=1)
    axes.set_yticks(range(len(drawn)), [f"{row['table']}: {row['row']}" for row in drawn])
    axes.invert_yaxis()
    axes.set_xlabel("mAP to the default, points")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=150)


def _bracketed(interval: Interval, sign: str = "") -> str:
    return f"{interval.value:{sign}.1f} [{interval.low:{sign}.1f}, {interval.high:{sign}.1f}]"
