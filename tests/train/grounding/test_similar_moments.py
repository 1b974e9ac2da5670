"""Moments from a curve of cosines."""

from __future__ import annotations

import numpy as np
import pytest

from r2t.train.grounding import similar_moments as rule
from r2t.train.grounding.similar_moments import MAX_MOMENTS, similar_moments


def plateau(num_frames: int, start: int, stop: int) -> np.ndarray:
    """Cosines in real CLIP's narrow band, higher for some frames."""
    curve = 0.2 + 0.01 * np.random.default_rng(0).standard_normal(num_frames)
    curve[start:stop] += 0.05
    return curve


def scored_by_hand(curve: np.ndarray, start: int, stop: int) -> float:
    curve = (curve - curve.mean()) / curve.std()
    beside = [curve[at] for at in (start - 1, stop) if 0 <= at < len(curve)]
    return float((curve[start:stop].sum() - 1.2 * max(beside)) / (stop - start + 1))


def overlaps(moments: np.ndarray) -> np.ndarray:
    starts, ends = moments[:, 0], moments[:, 1]
    shared = np.minimum(ends[:, None], ends) - np.maximum(starts[:, None], starts)
    shared = np.maximum(shared, 0.0)
    return shared / ((ends - starts)[:, None] + (ends - starts) - shared)


def test_the_moment_that_stands_out_is_found_wherever_the_level_lies() -> None:
    curve = plateau(60, 20, 32)
    found = similar_moments(curve, 0.5, 120.0)
    assert found[0, :2].tolist() == [40.0, 64.0]
    assert found[0, 2] == pytest.approx(scored_by_hand(curve, 20, 32))
    np.testing.assert_allclose(similar_moments(3 * curve - 1, 0.5, 120.0), found)


def test_moments_are_distinct_positive_and_best_first() -> None:
    found = similar_moments(np.random.default_rng(1).standard_normal(200), 1.0, 199.6)
    assert len(found) == MAX_MOMENTS
    assert (np.diff(found[:, 2]) <= 0).all()
    assert (found[:, 2] > 0).all()
    assert found[:, 1].max() <= 199.6
    assert overlaps(found)[~np.eye(len(found), dtype=bool)].max() < 0.51  # ends are clipped


def test_a_moment_counts_the_less_the_more_a_better_one_covers_of_it() -> None:
    curve = np.random.default_rng(3).standard_normal(40)
    found = similar_moments(curve, 1.0, 40.0)
    alone = [scored_by_hand(curve, int(start), int(end)) for start, end, _ in found]
    covered = np.tril(overlaps(found), -1).max(axis=1)
    assert covered.max() > 0.2
    np.testing.assert_allclose(found[:, 2], alone * (1 - covered))


def test_a_moment_does_not_end_where_the_frames_beside_it_are_as_high() -> None:
    curve = np.zeros(40)
    curve[10:20] = 1.0
    curve[12:16] = 1.3
    assert similar_moments(curve, 1.0, 40.0)[0, :2].tolist() == [10.0, 20.0]


@pytest.mark.parametrize("num_frames", [2, 3, 5, 6, 7, 24])
def test_the_best_of_all_windows_is_found_in_short_videos(num_frames: int) -> None:
    curve = np.random.default_rng(num_frames).standard_normal(num_frames)
    least = min(3, num_frames // 2)
    every = [
        (scored_by_hand(curve, start, start + length), start, start + length)
        for length in range(least, num_frames // 2 + 1)
        for start in range(num_frames - length + 1)
    ]
    (start, end, score) = similar_moments(curve, 1.0, float(num_frames))[0].tolist()
    assert (score, start, end) == pytest.approx(max(every))


@pytest.mark.parametrize(
    "curve", [np.full(40, 0.2), np.zeros(1), np.array([1.0, -1.0, 0.0, -1.0, 1.0])]
)
def test_where_nothing_stands_out_the_answer_is_the_whole_video(curve: np.ndarray) -> None:
    assert similar_moments(curve, 1.0, 9.0).tolist() == [[0.0, 9.0, 0.0]]


def test_a_day_of_video_takes_windows_in_proportion_to_its_frames() -> None:
    counts = [len(rule._windows(num_frames)) for num_frames in (2_000, 20_000)]
    assert counts[1] < 11 * counts[0]
    assert all(count < 25 * frames for count, frames in zip(counts, (2_000, 20_000), strict=True))
