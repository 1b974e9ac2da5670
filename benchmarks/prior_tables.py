"""How much the prior is worth, in tables: scores, kinds of sentences, rankings of videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ablation_study.scores import METRICS
from numpy.typing import NDArray

from r2t.train.metrics import bootstrap_intervals

FROZEN, PLAIN, PRIOR = "frozen similarity", "R²-Tuning", "with the prior"
MAP = "MR-full-mAP"
Table = NDArray[np.float64]  # [sentences, videos] or [seeds, queries]


class Ways:
    """What each way of answering scored on a world: runs by way, one for each seed."""

    def __init__(
        self, runs: Mapping[str, Sequence[dict[str, Any]]], kinds: Mapping[str, str]
    ) -> None:
        self.runs = runs
        first = runs[FROZEN][0]
        self.kind = np.array([kinds[query_id] for query_id in first["query_ids"]])
        self._video_ids = np.array(first["video_ids"])

    def values(self, way: str, metric: str) -> Table:
        """Return a metric of each seed and query."""
        return np.array([run["metrics"][metric] for run in self.runs[way]])

    def lead(self, way: str, metric: str, chosen: Any = ...) -> str:
        """Return by how much the prior is better than another way, in the mean of the seeds.

        The interval is over videos; how far seeds are apart is not in it.
        """
        difference = (self.values(PRIOR, metric) - self.values(way, metric)).mean(axis=0)
        videos = self._video_ids[chosen].tolist()
        found = bootstrap_intervals({metric: difference[chosen]}, videos, num_samples=4000)[metric]
        return f"{found.value:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"

    def scores(self) -> list[list[str]]:
        """Return the rows of the scores, and of the prior's lead."""
        rows = [["", *METRICS.values(), "mAP by seed", "others' sentences", "CPU seconds"]]
        for way, runs in self.runs.items():
            means = [f"{self.values(way, metric).mean():.1f}" for metric in METRICS]
            seeds = ", ".join(f"{mean:.1f}" for mean in self.values(way, MAP).mean(axis=1))
            rest = (_mean(runs, key) for key in ("others", "cpu_seconds"))
            rows.append([way, *means, seeds, *rest])
        for way in (PLAIN, FROZEN):
            leads = [self.lead(way, metric) for metric in METRICS]
            rows.append([f"{PRIOR}, less {way}", *leads, "", "", ""])
        return rows

    def by_kind(self) -> list[list[str]]:
        """Return the rows of the mAP of each kind of sentence."""
        titles = [f"{PRIOR}, less {way}" for way in (PLAIN, FROZEN)]
        rows = [["mAP of sentences about", "queries", *self.runs, *titles]]
        for kind in np.unique(self.kind):
            chosen = self.kind == kind
            means = [f"{self.values(way, MAP)[:, chosen].mean():.1f}" for way in self.runs]
            leads = [self.lead(way, MAP, chosen) for way in (PLAIN, FROZEN)]
            rows.append([str(kind), str(chosen.sum()), *means, *leads])
        return rows

    def ranking(self) -> list[list[str]]:
        """Return the rows of how well videos are ranked."""
        rows = [["videos ranked by", "recall@1", "recall@10", "AUC"]]
        for way, runs in self.runs.items():
            for score in runs[0]["ranking"]:
                figures = [list(run["ranking"][score].values()) for run in runs]
                first, tenth, auc = np.mean(figures, axis=0)
                rows.append([f"{way}: {score}", f"{first:.1f}", f"{tenth:.1f}", f"{auc:.3f}"])
        return rows


def _mean(runs: Sequence[dict[str, Any]], key: str) -> str:
    return f"{np.mean([run[key] for run in runs]):.1f}" if key in runs[0] else ""


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Write a table whose first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "| --- |" + " --- |" * (len(rows[0]) - 1), *lines[1:]])
