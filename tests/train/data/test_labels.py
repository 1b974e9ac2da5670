"""Annotations laid on the frames of a video."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from r2t.store.annotations import Annotation, SaliencyLabels
from r2t.store.errors import AnnotationError, ConfigError
from r2t.train.data.batch import NO_POSITIVE, Sample
from r2t.train.data.labels import bind, bind_moments

FLOAT32_SECONDS = 1e-5  # the official code binds in float32, we in float64


def annotation(moments: Any = (), saliency: SaliencyLabels | None = None) -> Annotation:
    array = np.array(moments, dtype=np.float64).reshape(-1, 2)
    return Annotation("q", "v", "a dog", array, saliency)


def bind_cases(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "post" / "bind.json").read_text())


def test_moments_bind_as_in_the_official_code(golden_folder: Path) -> None:
    cases = bind_cases(golden_folder)
    assert len(cases) == 10
    for case in cases:
        windows = np.array(case["ann"]["relevant_windows"], dtype=np.float64)
        frames = bind_moments(windows, case["T"], case["fps"])
        np.testing.assert_allclose(
            frames / case["fps"], case["boundary"], rtol=0, atol=FLOAT32_SECONDS
        )


def test_saliency_binds_as_in_the_official_code(golden_folder: Path) -> None:
    checked = 0
    for case in bind_cases(golden_folder):
        windows = np.array(case["ann"]["relevant_windows"], dtype=np.float64)
        if (windows < 0).any() or (windows[:, 0] > windows[:, 1]).any():
            continue  # Annotation refuses these
        labels = None
        if "saliency_scores" in case["ann"]:
            scores = np.zeros((int(case["ann"]["duration"] / 2), 3), dtype=np.float32)
            scores[case["ann"]["relevant_clip_ids"]] = case["ann"]["saliency_scores"]
            labels = SaliencyLabels(scores, clip_seconds=2, lowest=0, highest=4)
        bound = bind(annotation(windows, labels), case["T"], case["fps"], "above_zero")
        np.testing.assert_allclose(bound.saliency, case["saliency"], rtol=0, atol=1e-7)
        assert bound.candidates.tolist() == case["candidates"]
        checked += 1
    assert checked == 8


def test_highlight_labels_bind_as_in_the_official_code(golden_folder: Path) -> None:
    cases = json.loads((golden_folder / "post" / "hd.json").read_text())
    youtube, tvsum = cases[0], cases[1]
    match = np.array(youtube["match"], dtype=np.float32)[:, None]
    labels = SaliencyLabels(match, clip_seconds=3.7, lowest=-1, highest=1)
    bound = bind(annotation(saliency=labels), len(match), 1 / 3.7, "above_half")
    assert bound.saliency.tolist() == youtube["saliency"]
    assert bound.candidates.tolist() == youtube["candidates"]

    scores = np.array(tvsum["anno"], dtype=np.float32)
    labels = SaliencyLabels(scores, clip_seconds=2, lowest=1, highest=5)
    bound = bind(annotation(saliency=labels), tvsum["T"], 0.5, "above_median")
    np.testing.assert_allclose(bound.saliency, tvsum["saliency"], rtol=0, atol=1e-7)
    assert bound.candidates.tolist() == tvsum["candidates"]


def test_a_frame_takes_the_clip_that_holds_its_slot_centre() -> None:
    scores = np.arange(4, dtype=np.float32)[:, None]
    labels = SaliencyLabels(scores, clip_seconds=2, lowest=0, highest=4)
    bound = bind(annotation(saliency=labels), num_frames=8, frame_rate_fps=1, positive="above_zero")
    assert bound.saliency.tolist() == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    bound = bind(annotation(saliency=labels), 3, 0.375, "above_zero")
    assert bound.saliency.tolist() == [0, 0.5, 0.75]  # centres at 1.33, 4 and 6.67 s


def test_frames_after_the_last_scored_clip_are_cut() -> None:
    labels = SaliencyLabels(np.ones((6, 1), np.float32), clip_seconds=2, lowest=0, highest=2)
    bound = bind(annotation(saliency=labels), 7, 0.5, "above_zero")
    assert len(bound.saliency) == 6
    sample = Sample("q", torch.zeros(2, 7, 3, 4), torch.zeros(2, 5, 4), 14.0, 0.5)
    assert sample.with_labels(bound.draw(np.random.default_rng(0))).video.shape == (2, 6, 3, 4)
    with pytest.raises(ConfigError, match="saliency of 6 frames for a video of 7"):
        Sample("q", sample.video, sample.query, 14.0, 0.5, bound.draw(np.random.default_rng(0)))


@pytest.mark.parametrize("num_clips", [5, 15])
def test_scores_of_another_cut_are_refused(num_clips: int) -> None:
    scores = np.ones((num_clips, 1), np.float32)
    labels = SaliencyLabels(scores, clip_seconds=2, lowest=0, highest=2)
    with pytest.raises(AnnotationError, match=f"{num_clips} clips of 2 s"):
        bind(annotation(saliency=labels), 10, 0.5, "above_zero")


def test_adjusted_moments_are_counted() -> None:
    bound = bind(annotation([[0, 8], [3, 3], [4, 99]]), 10, 0.5, "above_zero")
    assert bound.num_adjusted == 2
    assert bound.moments.tolist() == [[0, 4], [1, 2], [2, 10]]


def test_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(AnnotationError, match="neither moments nor saliency"):
        bind(annotation(), 10, 0.5, "above_zero")


def test_the_positive_frame_is_drawn_among_the_candidates() -> None:
    bound = bind(annotation([[4, 10]]), 10, 0.5, "above_zero")
    generator = np.random.default_rng(0)
    drawn = {bound.draw(generator).positive_frame for _ in range(100)}
    assert drawn == {2, 3, 4}
    flat = SaliencyLabels(np.ones((10, 1), np.float32), clip_seconds=2, lowest=0, highest=2)
    bound = bind(annotation(saliency=flat), 10, 0.5, "above_median")
    assert bound.draw(generator).positive_frame == NO_POSITIVE
