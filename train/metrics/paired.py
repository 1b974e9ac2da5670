"""Whether two models differ, on the same queries: by how much, and how often by chance.

Videos are the unit: the queries of one are not independent, so they change sides together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r2t.store.errors import ConfigError
from r2t.train.metrics.bootstrap import Interval, paired_difference
from r2t.train.metrics.evaluators import QueryScores

_CLOSE = 1e-9  # sums that differ by less are equal but for rounding
_BLOCK = 1 << 22  # signs held at once


@dataclass(frozen=True)
class Difference:
    """Ours minus theirs in percent points with its 95 % interval, and how often chance does that.

    `p_value`: two-sided, of swapping the two models' answers at random, video by video.
    """

    interval: Interval
    p_value: float


def compare_scores(
    ours: QueryScores,
    theirs: QueryScores,
    *,
    metrics: Sequence[str],
    num_samples: int = 10_000,
    seed: int = 0,
) -> dict[str, Difference]:
    """Compare two models by each metric; both scored the same queries, in any order."""
    if num_samples < 1:
        raise ConfigError(f"num_samples = {num_samples}: must be at least 1")
    intervals = paired_difference(ours, theirs, metrics=metrics, num_samples=num_samples, seed=seed)
    row = {query_id: index for index, query_id in enumerate(theirs.query_ids)}
    order = [row[query_id] for query_id in ours.query_ids]
    mine, other = ours.metrics(), theirs.metrics()
    table = np.stack([mine[name] - other[name][order] for name in intervals], axis=1)
    videos, video = np.unique(np.asarray(ours.video_ids, dtype=np.str_), return_inverse=True)
    sums = np.zeros((len(videos), len(intervals)))
    np.add.at(sums, video, np.nan_to_num(table))
    observed = np.abs(sums.sum(axis=0)) - _CLOSE
    random = np.random.default_rng(seed)
    as_large = np.zeros(len(intervals))
    block = max(1, _BLOCK // len(videos))
    for start in range(0, num_samples, block):
        size = min(block, num_samples - start)
        signs = random.integers(0, 2, (size, len(videos)), dtype=np.int8) * 2.0 - 1
        as_large += (np.abs(signs @ sums) >= observed).sum(axis=0)
    # What was observed is one of the ways to swap, so no p-value is 0.
    p_values = (as_large + 1) / (num_samples + 1)
    return {
        name: Difference(interval, float(p_value))
        for (name, interval), p_value in zip(intervals.items(), p_values, strict=True)
    }
