"""The prior of a frame and a sentence, against numbers that are known."""

from __future__ import annotations

import numpy as np
import pytest

from r2t.train.data.prior import prior_features


def unit(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float16)


def test_it_is_the_cosine_as_it_is_and_standardised() -> None:
    frames = unit(0, 60, 90, 120)
    prior = prior_features(frames, unit(0)[0])
    cosines = np.array([1, 0.5, 0, -0.5])
    np.testing.assert_allclose(prior[:, 0], 10 * cosines, atol=5e-3)
    expected = (cosines - cosines.mean()) / cosines.std()
    np.testing.assert_allclose(prior[:, 1], expected, atol=2e-3)
    assert prior.dtype == np.float32
    # Lengths do not count, so rounding them to float16 does not either.
    np.testing.assert_allclose(prior_features(2 * frames, unit(0)[0]), prior, atol=5e-3)


@pytest.mark.parametrize("num_frames", [1, 5])
def test_a_video_that_stands_still_has_no_deviation(num_frames: int) -> None:
    rng = np.random.default_rng(0)
    frame, sentence = rng.standard_normal((2, 64)).astype(np.float16)
    prior = prior_features(np.tile(frame, (num_frames, 1)), sentence)
    assert (prior[:, 1] == 0).all()
    assert (prior[:, 0] == prior[0, 0]).all()
    assert prior[0, 0] != 0


def test_nothing_is_no_number_where_an_embedding_is_zero() -> None:
    zeros = np.zeros((3, 2), np.float16)
    assert (prior_features(zeros, unit(0)[0]) == 0).all()
    assert (prior_features(unit(0, 90), zeros[0]) == 0).all()
