"""How sure a score is: bootstrap over videos, as the queries of one video are not independent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from r2t.store.errors import AnnotationError, ConfigError
from r2t.train.metrics.evaluators import QueryScores

HEADLINE_METRICS = ("MR-full-R1@0.5", "MR-full-R1@0.7", "MR-full-mAP")

_QUANTILES = (0.025, 0.975)
_MAX_DRAWN = 1 << 22  # counts held at once


@dataclass(frozen=True)
class Interval:
    """A mean over queries, and the 95 % interval of what other videos would have given."""

    value: float
    low: float
    high: float


def bootstrap_intervals(
    values: Mapping[str, Float64[np.ndarray, " queries"]],
    video_ids: Sequence[str],
    *,
    num_samples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return the 95 % percentile interval of each metric's mean, resampling whole videos.

    `values` are per query, such as `QueryScores.metrics()`; NaN is left out of the means. A metric
    that no query counts for is left out of the result. All metrics see the same resamples.
    """
    if num_samples < 1:
        raise ConfigError(f"num_samples = {num_samples}: must be at least 1")
    names = [name for name, column in values.items() if not np.isnan(column).all()]
    if not names:
        raise AnnotationError("no metric has a value to resample")
    table = np.stack([values[name] for name in names], axis=1)
    videos, video = np.unique(np.asarray(video_ids, dtype=np.str_), return_inverse=True)
    sums, counts = np.zeros((2, len(videos), len(names)))
    np.add.at(sums, video, np.nan_to_num(table))
    np.add.at(counts, video, np.isfinite(table))
    means = []
    for drawn in _resamples(len(videos), num_samples, seed):
        total = drawn @ counts
        # A resample may miss every query of a rare range; it says nothing about that metric.
        missing = np.full_like(total, np.nan)
        means.append(np.divide(drawn @ sums, total, out=missing, where=total > 0))
    low, high = np.nanquantile(np.concatenate(means), _QUANTILES, axis=0)
    centre = sums.sum(axis=0) / counts.sum(axis=0)
    return {
        name: Interval(float(centre[i]), float(low[i]), float(high[i]))
        for i, name in enumerate(names)
    }


def paired_difference(
    ours: QueryScores,
    theirs: QueryScores,
    *,
    metrics: Sequence[str] = HEADLINE_METRICS,
    num_samples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return ours minus theirs on the same queries, in percent points, with 95 % intervals.

    An interval without 0 in it is a difference that the choice of videos does not explain.
    """
    if set(ours.query_ids) != set(theirs.query_ids):
        raise AnnotationError(
            f"a paired difference needs the same queries; {len(ours.query_ids)} and "
            f"{len(theirs.query_ids)} were given, and they differ"
        )
    row = {query_id: index for index, query_id in enumerate(theirs.query_ids)}
    order = [row[query_id] for query_id in ours.query_ids]
    mine, other = ours.metrics(), theirs.metrics()
    unknown = [name for name in metrics if name not in mine or name not in other]
    if unknown:
        raise ConfigError(f"metric {unknown[0]!r} is not scored; there are {', '.join(mine)}")
    differences = {name: mine[name] - other[name][order] for name in metrics}
    return bootstrap_intervals(differences, ours.video_ids, num_samples=num_samples, seed=seed)


def _resamples(
    num_videos: int, num_samples: int, seed: int
) -> Iterator[Float64[np.ndarray, "samples videos"]]:
    """Yield how often each video is drawn, in blocks of samples of bounded size."""
    random = np.random.default_rng(seed)
    block = max(1, _MAX_DRAWN // num_videos)
    even = np.full(num_videos, 1 / num_videos)
    for start in range(0, num_samples, block):
        size = min(block, num_samples - start)
        yield random.multinomial(num_videos, even, size=size).astype(np.float64)
