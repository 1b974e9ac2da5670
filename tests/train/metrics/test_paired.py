"""Paired significance: what chance alone would do."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from r2t.store import Annotation
from r2t.train.metrics.evaluators import QueryScores, score_queries
from r2t.train.metrics.paired import compare_scores
from r2t.train.metrics.submission import SubmissionRow


def scored(hits: list[list[bool]], *, backwards: bool = False) -> QueryScores:
    """Score queries, a list for each video: found exactly, or missed."""
    found = [
        (f"v{video}-{place}", f"v{video}", hit)
        for video, row in enumerate(hits)
        for place, hit in enumerate(row)
    ]
    if backwards:
        found.reverse()
    truth = np.array([[10.0, 20.0]])
    annotations = [Annotation(query, video, "a", truth) for query, video, _ in found]
    rows = [
        SubmissionRow(
            query, video, "a", np.array([[10.0 if hit else 50.0, 20.0 if hit else 60, 1]])
        )
        for query, video, hit in found
    ]
    return score_queries(rows, annotations, evaluator="moments")


def test_the_p_value_is_that_of_all_swaps_of_whole_videos() -> None:
    ours = [[True, True], [True, False], [True], [True], [False, True]]
    theirs = [[False, False], [False, False], [False], [True], [False, False]]
    found = compare_scores(
        scored(ours), scored(theirs, backwards=True), metrics=["MR-full-R1@0.5"], num_samples=20_000
    )["MR-full-R1@0.5"]
    lead = np.array([sum(a) - sum(b) for a, b in zip(ours, theirs, strict=True)])
    swaps = np.array(list(product((1, -1), repeat=len(lead)))) @ lead
    assert found.p_value == pytest.approx(np.mean(np.abs(swaps) >= lead.sum()), abs=0.01)
    assert found.interval.value == pytest.approx(100 * lead.sum() / 8)


def test_equal_models_do_not_differ() -> None:
    same = scored([[True, False], [False]])
    found = compare_scores(same, same, metrics=["MR-full-mAP"], num_samples=100)["MR-full-mAP"]
    assert found.p_value == 1
    assert (found.interval.low, found.interval.high) == (0, 0)
