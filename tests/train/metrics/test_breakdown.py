"""Scores by length of moment and sentence."""

from __future__ import annotations

import numpy as np

from r2t.store import Annotation
from r2t.train.metrics.breakdown import score_breakdown
from r2t.train.metrics.evaluators import score_queries
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
        "all queries": (3, 200 / 3),
        "with moments up to 10 s": (2, 50.0),
        "with moments of 10 to 30 s": (1, 0.0),
        "with moments over 30 s": (1, 100.0),
        "up to 5 words": (1, 100.0),
        "6 to 10 words": (2, 50.0),
    }
