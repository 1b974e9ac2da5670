"""How long does evaluating QVHighlights val take? Ours against one query at a time.

    python benchmarks/metrics.py
    python benchmarks/metrics.py --predictions hl_val_submission.jsonl --annotations val.jsonl

Both run in one process, alternately, on the same arrays in memory; reading files is not timed. By
default the data are random, of QVHighlights val's size. Every mean that both compute must agree.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from metrics_oracle import evaluate_serially

from r2t.store.annotations import Annotation, SaliencyLabels
from r2t.store.datasets.registry import read_annotations
from r2t.train.metrics.evaluators import evaluate_predictions, score_queries
from r2t.train.metrics.submission import SubmissionRow, read_submission

NUM_QUERIES, NUM_CLIPS, NUM_PREDICTIONS = 1550, 75, 10


def random_task(seed: int) -> tuple[list[SubmissionRow], list[Annotation]]:
    """Make predictions and annotations of the size and shape of QVHighlights val."""
    random = np.random.default_rng(seed)
    rows, annotations = [], []
    for index in range(NUM_QUERIES):
        # Two thirds of the queries have one moment, the rest up to a dozen; all are disjoint.
        num_moments = 1 if random.random() < 0.66 else int(random.integers(2, 12))
        edges = random.choice(np.arange(1, NUM_CLIPS), 2 * num_moments, replace=False)
        truth = np.sort(edges).reshape(-1, 2) * 2.0
        clips = np.arange(NUM_CLIPS)[:, None] * 2
        inside = np.any((truth[:, 0] <= clips) & (clips < truth[:, 1]), axis=1)
        labels = random.integers(0, 5, (NUM_CLIPS, 3)) * inside[:, None]
        near = truth[random.integers(num_moments, size=NUM_PREDICTIONS)]
        moved = np.sort(near + random.normal(0, 6, near.shape), axis=1).clip(0, 2 * NUM_CLIPS)
        score = np.sort(random.random((NUM_PREDICTIONS, 1)), axis=0)[::-1]
        saliency = inside + random.normal(0, 1, NUM_CLIPS)
        ids = str(index), f"video{index}"
        moments = np.concatenate([moved, score], axis=1)
        rows.append(SubmissionRow(*ids, moments=moments, saliency=saliency))
        human = SaliencyLabels(labels.astype(np.float32), 2.0, 0.0, 4.0)
        annotations.append(Annotation(*ids, "a query", truth, human, "val"))
    return rows, annotations


def main() -> None:
    """Time both, alternately, and print the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--predictions", type=Path)
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    if (options.predictions is None) != (options.annotations is None):
        parser.error("--predictions and --annotations go together")
    if options.predictions is None:
        rows, annotations = random_task(seed=0)
    else:
        rows = read_submission(options.predictions)
        annotations = read_annotations(options.annotations)
    by_query = {row.query_id: row for row in rows}
    ordered = [by_query[annotation.query_id] for annotation in annotations]
    arrays = (
        [row.moments for row in ordered if row.moments is not None],
        [annotation.moments for annotation in annotations],
        [row.saliency for row in ordered if row.saliency is not None],
        [a.saliency.scores.astype(np.float64) for a in annotations if a.saliency is not None],
    )
    check_agreement(rows, annotations, evaluate_serially(*arrays))
    serial, ours = [], []
    for _ in range(options.repeats):
        serial.append(seconds(lambda: evaluate_serially(*arrays)))
        ours.append(seconds(lambda: evaluate_predictions(rows, annotations)))
    ratios = [slow / fast for slow, fast in zip(serial, ours, strict=True)]
    print(f"{platform.processor() or platform.machine()}, numpy {np.__version__}, one process")
    print(f"{len(rows)} queries, {options.repeats} repeats, alternating")
    for name, times in (("one query at a time", serial), ("ours", ours)):
        print(f"{name:20} median {statistics.median(times) * 1e3:8.1f} ms   {spread(times, 1e3)}")
    print(f"{'times faster':20} median {statistics.median(ratios):8.1f}      {spread(ratios, 1)}")


def check_agreement(
    rows: list[SubmissionRow], annotations: list[Annotation], means: dict[str, float]
) -> None:
    """Refuse to time two programs that do not compute the same."""
    scores = score_queries(rows, annotations).metrics()
    for level in ("Fair", "Good", "VeryGood"):
        ours = float(np.mean(scores[f"HL-min-{level}-mAP"]))
        assert abs(ours - 100 * means[f"{level}/mAP"]) < 1e-9, level
    for name in ("full", "long", "middle", "short"):
        ours = float(np.nanmean(scores[f"MR-{name}-mIoU"]))
        assert abs(ours - 100 * means[f"{name}/mIoU"]) < 1e-9, name


def seconds(run: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def spread(values: list[float], scale: float) -> str:
    """Show the range of repeated measurements."""
    return f"({min(values) * scale:.1f} to {max(values) * scale:.1f})"


if __name__ == "__main__":
    main()
