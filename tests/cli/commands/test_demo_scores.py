"""What the demo says of its answers, on scores that are plain to see."""

from __future__ import annotations

import numpy as np
import pytest

from r2t.cli.commands.demo.report import scores_as_json
from r2t.cli.commands.demo.scores import OURS, compare_methods
from r2t.store import Annotation
from r2t.train.metrics.evaluators import QueryScores, score_queries
from r2t.train.metrics.submission import SubmissionRow

TRUTHS = [
    Annotation(f"v{video}-{query}", f"v{video}", "a sentence", np.array([[2.0, 6.0]]))
    for video in range(4)
    for query in range(2)
]
KINDS = {truth.query_id: "even" if truth.query_id.endswith("0") else "odd" for truth in TRUTHS}


def answered(*, rightly: set[str]) -> QueryScores:
    """Score answers that are exact for some queries and miss the others."""
    rows = [
        SubmissionRow(
            truth.query_id,
            truth.video_id,
            truth.query,
            np.array([[2.0, 6.0, 1.0] if truth.query_id in rightly else [10.0, 12.0, 1.0]]),
        )
        for truth in TRUTHS
    ]
    return score_queries(rows, TRUTHS, evaluator="moments")


def test_scores_are_averaged_over_trainings_before_videos_are_resampled() -> None:
    everything = set(KINDS)
    even = {query_id for query_id, kind in KINDS.items() if kind == "even"}
    runs = [
        {OURS: answered(rightly=everything), "other": answered(rightly=even)},
        {OURS: answered(rightly=even), "other": answered(rightly=even)},
    ]
    ours, other = compare_methods(runs, KINDS)
    assert ours.lead is None
    assert ours.by_kind == {"even": 100, "odd": 50}
    assert other.by_kind == {"even": 100, "odd": 0}
    report = scores_as_json([ours, other])
    # Every video has one query of each kind, so it does not matter which videos are drawn.
    assert report["scores"][OURS]["R1@0.7"] == {"value": 75, "interval": [75, 75]}
    assert report["lead"] == {
        "other": {
            metric: {"value": 25, "interval": [25, 25]} for metric in ("R1@0.5", "R1@0.7", "mAP")
        }
    }


def test_a_lead_that_hangs_on_one_video_is_not_sure() -> None:
    _, other = compare_methods(
        [{OURS: answered(rightly={"v0-0", "v0-1"}), "other": answered(rightly={"v1-0"})}], KINDS
    )
    assert other.lead is not None
    lead = other.lead["MR-full-mAP"]
    assert lead.value == pytest.approx(12.5)
    assert lead.low < 0 < lead.high
