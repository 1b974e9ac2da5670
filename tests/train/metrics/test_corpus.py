"""Ranking a collection: worked out by hand, and chance against many random orders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from r2t.store.annotations import Annotation
from r2t.store.errors import AnnotationError
from r2t.train.metrics.corpus import CorpusAnswers, score_chance, score_corpus
from r2t.train.metrics.relevance import relevant_videos

VIDEOS = [f"v{number}" for number in range(7)]
ROWS = [
    Annotation("a", "v0", "a dog", np.array([[0.0, 10.0]])),
    Annotation("b", "v1", "a cat", np.array([[4.0, 6.0], [10.0, 20.0]])),
]


def answers(
    best_first: dict[str, list[int]], spans: dict[tuple[str, int], list[float]]
) -> CorpusAnswers:
    scores, moments = np.zeros((2, 7)), np.zeros((2, 7, 1, 3))
    moments[..., 2] = 1
    for row, query_id in enumerate("ab"):
        for place, video in enumerate(best_first[query_id]):
            scores[row, video] = -place
        for (asked, video), span in spans.items():
            if asked == query_id:
                moments[row, video, 0, :2] = span
    return CorpusAnswers(["a", "b"], VIDEOS, scores, moments)


def test_what_counts_as_found() -> None:
    found = answers(
        {"a": [3, 0, 1, 2, 4, 5, 6], "b": [0, 2, 3, 4, 5, 1, 6]},
        {("a", 0): [0.0, 6.0], ("b", 1): [9.0, 19.0], ("a", 3): [0.0, 10.0]},
    )
    values = score_corpus(found, ROWS, relevant_videos(ROWS))
    assert {name: column.tolist() for name, column in values.items()} == {
        "video-R@1": [0, 0],
        "video-R@5": [100, 0],
        "VCMR-R@1@0.5": [0, 0],
        "VCMR-R@5@0.5": [100, 0],  # v0 is second, with an IoU of 0.6
        "VCMR-R@1@0.7": [0, 0],
        "VCMR-R@5@0.7": [0, 0],
    }
    further = {"a": ["v0", "v3"], "b": ["v0", "v1", "elsewhere"]}
    assert score_corpus(found, ROWS, further)["video-R@1"].tolist() == [100, 100]


def test_moments_of_all_videos_stand_in_one_order() -> None:
    # The best video's own three, two of them wrong, and the right one of a video that is behind.
    scores = np.array([[2.0, 0.0, 0.0, 0.0, 0.0, 0.0, -2.0]])  # deviations 1.87 and -1.87
    moments = np.zeros((1, 7, 3, 3))
    moments[0, 0] = [[20, 30, 0.5], [0, 9, 0.4], [40, 50, 0.0]]
    moments[0, 1, 0] = [0, 10, 0.9]
    found = CorpusAnswers(["a"], VIDEOS, scores, moments)
    order = np.exp(found.order()[0])
    deviations = 2 / np.sqrt(8 / 7)
    assert order[0] == pytest.approx(
        [0.5 * np.exp(deviations / 2), 0.4 * np.exp(deviations / 2), 0]
    )
    assert order[1] == pytest.approx([0.9, 0, 0])
    assert order[2].tolist() == [0, 0, 0]
    values = score_corpus(found, ROWS[:1], {"a": ["v0"]})
    depths = {name: column.tolist() for name, column in values.items() if "@0.7" in name}
    assert depths == {"VCMR-R@1@0.7": [0], "VCMR-R@5@0.7": [100], "VCMR-R@10@0.7": [100]}
    chance = score_chance(found, ROWS[:1], {"a": ["v0"]})
    assert chance["VCMR-R@1@0.7"] == pytest.approx([100 / 3])  # three moments, one right
    assert chance["VCMR-R@5@0.7"] == pytest.approx([100])


def test_scores_that_are_all_alike_find_nothing() -> None:
    found = answers({"a": list(range(7)), "b": list(range(7))}, {})
    flat = replace(found, scores=np.zeros((2, 7)))
    values = score_corpus(flat, ROWS, relevant_videos(ROWS))
    assert not any(column.any() for column in values.values())


def test_chance_is_what_random_orders_give() -> None:
    found = answers({"a": list(range(7)), "b": list(range(7))}, {("a", 0): [0.0, 9.0]})
    relevance = {"a": ["v0"], "b": ["v1", "v2", "v5"]}
    generator, orders = np.random.default_rng(0), 3000
    sums: dict[str, np.ndarray] = {}
    for _ in range(orders):
        drawn = replace(found, scores=generator.random((2, 7)))
        for name, column in score_corpus(drawn, ROWS, relevance).items():
            sums[name] = sums.get(name, np.zeros(2)) + column
    for name, column in score_chance(found, ROWS, relevance).items():
        np.testing.assert_allclose(sums[name] / orders, column, atol=4)


def test_moments_of_a_sentence_without_annotated_ones_are_not_scored() -> None:
    found = answers({"a": list(range(7)), "b": list(range(7))}, {("a", 0): [0.0, 10.0]})
    rows = [ROWS[0], replace(ROWS[1], moments=np.zeros((0, 2)))]
    for score in (score_corpus, score_chance):
        values = score(found, rows, relevant_videos(rows))
        assert np.isfinite(values["video-R@1"]).all()
        assert np.isfinite(values["VCMR-R@1@0.5"]).tolist() == [True, False]


def test_a_query_without_a_right_video_is_refused() -> None:
    found = answers({"a": list(range(7)), "b": list(range(7))}, {})
    with pytest.raises(AnnotationError, match="no video that was asked is right for the query 'b'"):
        score_corpus(found, ROWS, {"a": ["v0"], "b": ["elsewhere"]})
