"""Baselines of the demo, on curves whose moments are plain to see."""

from __future__ import annotations

import numpy as np
import pytest

from r2t.extract.demo.baselines import (
    RULES,
    SimilarityRule,
    choose_similarity_rule,
    random_moments,
    sentences_of_others,
    whole_video,
)
from r2t.store.errors import ConfigError

CURVE = np.array([0.1, 0.1, 0.8, 0.9, 0.8, 0.1, 0.1, 0.5, 0.6, 0.1])


def test_a_threshold_finds_the_runs_and_ranks_them() -> None:
    moments = SimilarityRule(1, level=0.4)(CURVE, 0.5, 20.0)
    assert moments[:, :2].tolist() == [[4.0, 10.0], [14.0, 18.0]]
    assert moments[0, 2] > moments[1, 2]


def test_a_window_sits_on_the_best_place_and_windows_do_not_touch() -> None:
    moments = SimilarityRule(1, seconds=3.0)(CURVE, 1.0, 10.0)
    assert moments[0, :2].tolist() == [2.0, 5.0]
    assert (np.diff(moments[:, 2]) <= 0).all()
    by_time = moments[np.argsort(moments[:, 0])]
    assert (by_time[1:, 0] >= by_time[:-1, 1]).all()


def test_smoothing_bridges_a_gap() -> None:
    curve = np.array([0, 1, 1, 0, 1, 1, 0, 0, 0], dtype=np.float32)
    assert len(SimilarityRule(1, level=0.5)(curve, 1.0, 9.0)) == 2
    assert len(SimilarityRule(3, level=0.5)(curve, 1.0, 9.0)) == 1


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("num_frames", [1, 2, 36])
def test_every_rule_answers_every_curve_inside_the_video(
    rule: SimilarityRule, num_frames: int
) -> None:
    noise = np.random.default_rng(0).random(num_frames)
    for curve in (noise, np.zeros(num_frames)):
        moments = rule(curve, 1.0, num_frames - 0.25)
        assert len(moments)
        assert (moments[:, 0] < moments[:, 1]).all()
        assert moments[:, 0].min() >= 0
        assert moments[:, 1].max() <= num_frames - 0.25


def test_the_chosen_rule_is_the_best_by_the_score_given() -> None:
    assert choose_similarity_rule(
        lambda rule: -abs((rule.level or 9) - 0.7) - rule.smooth
    ) == SimilarityRule(1, level=0.7)


def test_answers_from_no_video_stay_inside_it() -> None:
    assert whole_video(36.0).tolist() == [[0.0, 36.0, 1.0]]
    moments = random_moments(np.random.default_rng(0), 36.0, num_moments=50)
    assert moments.shape == (50, 3)
    assert (moments[:, 0] <= moments[:, 1]).all()
    assert moments[:, 1].max() <= 36
    assert (np.diff(moments[:, 2]) <= 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_every_query_gets_a_sentence_of_another_video(seed: int) -> None:
    videos = ["a"] * 3 + ["b"] * 2 + ["c"] * 3 + ["d"] + ["b"]
    lenders = sentences_of_others(videos, np.random.default_rng(seed))
    assert sorted(lenders) == list(range(len(videos)))
    assert all(videos[lender] != video for lender, video in zip(lenders, videos, strict=True))


def test_sentences_of_one_video_cannot_be_exchanged() -> None:
    with pytest.raises(ConfigError, match="one video has 3 of 4"):
        sentences_of_others(["a", "a", "b", "a"], np.random.default_rng(0))
