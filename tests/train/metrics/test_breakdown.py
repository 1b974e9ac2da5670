"""Scores by length of moment and sentence."""

from __future__ import annotations

import numpy as np

from r2t.store import Annotation
from r2t.train.metrics.breakdown import official_intervals, score_breakdown
from r2t.train.metrics.evaluators import official_table, score_queries
from r2t.train.metrics.submission import SubmissionRow


def test_each_query_counts_in_the_groups_of_its_moments_and_words() -> None:
    truths = [
        ("a b c", [[0, 10]], [0, 10, 0.9]),  # hit
        ("a b c d e f", [[0, 8], [20, 60]], [20, 60, 0.9]),  # the long moment of two
        ("a b c d e f g", [[0, 20]], [50, 60, 0.9]),  # missed
    ]
    annotations = [
        Annotation(str(place), f"v{place}", query, np.array(moments, np.float64))
        for place, (query, moments, _) in enumerate(truths)
    ]
    rows = [
        SubmissionRow(str(place), f"v{place}", query, np.array([found]))
        for place, (query, _, found) in enumerate(truths)
    ]
    scores = score_queries(rows, annotations, evaluator="moments")
    groups = {group.name: group for group in score_breakdown(scores, annotations, num_samples=20)}
    found = {
        name: (group.num_queries, group.intervals["R1@0.5"].value) for name, group in groups.items()
    }
    assert found == {  # and none without queries
        "all queries": (3, 66.67),
        "with moments up to 10 s": (2, 50.0),
        "with moments of 10 to 30 s": (1, 0.0),
        "with moments over 30 s": (1, 100.0),
        "up to 5 words": (1, 100.0),
        "6 to 10 words": (2, 50.0),
    }


def test_values_are_those_of_the_official_table_to_the_last_digit() -> None:
    ends = (40, 40, 27, 33, 40, 31, 40, 25, 25, 20, 33, 20, 23, 33, 29, 25)  # a mean of 75.625
    annotations = [
        Annotation(str(place), f"v{place}", "a", np.array([[0.0, 40.0]]))
        for place in range(len(ends))
    ]
    rows = [
        SubmissionRow(each.query_id, each.video_id, "a", np.array([[0.0, end, 0.5]]))
        for each, end in zip(annotations, ends, strict=True)
    ]
    scores = score_queries(rows, annotations, evaluator="moments")
    brief = official_table(scores)["brief"]
    assert brief["MR-full-mIoU"] == 75.63  # the mean of percentages rounds to 75.62
    intervals = official_intervals(scores, num_samples=1)
    assert {name: interval.value for name, interval in intervals.items()} == {
        name: value for name, value in brief.items() if value is not None
    }
    every, long, _ = score_breakdown(scores, annotations, num_samples=1)
    assert every.intervals["mIoU"].value == brief["MR-full-mIoU"]
    assert long.intervals["mIoU"].value == brief["MR-long-mIoU"]
