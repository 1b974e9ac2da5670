"""Labels on the frame grid, and padding."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from r2t.store.annotations import Annotation, SaliencyLabels
from r2t.store.errors import AnnotationError, ConfigError
from r2t.train.data.batch import NO_POSITIVE, Labels, Sample, bind, bind_moments, collate

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


def test_collate_pads_with_zeros_and_counts(make_sample: Callable[..., Sample]) -> None:
    samples = [make_sample(3, 4, moments=[[0, 1], [1, 3]]), make_sample(5, 2)]
    batch = collate(samples)
    assert batch.video.shape == (2, 4, 5, 5, 48)
    assert batch.video.dtype == torch.float16
    assert batch.num_frames.tolist() == [3, 5]
    assert batch.num_words.tolist() == [4, 2]
    assert torch.equal(batch.video[0, :, :3], samples[0].video)
    assert not batch.video[0, :, 3:].any()
    assert torch.equal(batch.query[1, :, :2], samples[1].query)
    assert not batch.query[1, :, 2:].any()
    assert batch.frame_mask.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert batch.word_mask.tolist() == [[True] * 4, [True] * 2 + [False] * 2]
    assert batch.durations_seconds.tolist() == [6, 10]
    assert batch.targets is not None
    assert batch.targets.moments.tolist() == [[[0, 1], [1, 3]], [[0, 2.5], [0, 0]]]
    assert batch.targets.num_moments.tolist() == [2, 1]
    assert batch.targets.saliency[0].tolist() == [0, 0.5, 1, 0, 0]
    assert batch.targets.positive_frame.tolist() == [2, 4]
    assert repr(batch) == "Batch(2 queries, videos=[2, 4, 5, 5, 48], query=[2, 4, 4, 32], labelled)"


def test_moving_a_batch_keeps_seconds_on_the_host(make_sample: Callable[..., Sample]) -> None:
    moved = collate([make_sample(3, 4)]).to("meta")
    assert moved.targets is not None
    on_device = [moved.videos, moved.video_of_query, moved.query, moved.num_frames, moved.num_words]
    on_device += [moved.targets.moments, moved.targets.positive_frame]
    assert {tensor.device.type for tensor in on_device} == {"meta"}
    assert moved.durations_seconds.tolist() == [6]


def test_queries_share_a_video_whose_codes_are_decoded(make_sample: Callable[..., Sample]) -> None:
    batch = collate([make_sample(frames, 4) for frames in (3, 5, 3)])
    codes = torch.randint(-128, 128, (2, 4, 5, 5, 48), dtype=torch.int8)
    affine = torch.rand(2, 2, 4, 48)
    rows = torch.tensor([0, 1, 0])
    shared = replace(batch, videos=codes, affine=affine, video_of_query=rows)
    assert shared.video_num_frames.tolist() == [3, 5]
    decoded = codes.float() * affine[:, 0, :, None, None] + affine[:, 1, :, None, None]
    decoded[0, :, 3:] = 0  # what is padding is zero after decoding, too
    assert torch.equal(shared.video, decoded[rows])
    kept = shared.clone()
    codes.zero_()
    assert torch.equal(kept.video, decoded[rows])


def test_samples_that_do_not_fit_together_are_refused(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample(3, 4)
    fewer_tokens = Sample("q", sample.video[:, :, :1], sample.query, 6.0, 0.5)
    with pytest.raises(ConfigError, match="features of one store"):
        collate([sample, fewer_tokens])
    with pytest.raises(ConfigError, match="1 of 2 samples have labels"):
        collate([sample, Sample("q", sample.video, sample.query, 6.0, 0.5)])
    with pytest.raises(ConfigError, match="at least one sample"):
        collate([])
    with pytest.raises(ConfigError, match="4 layers of video and 2 of query"):
        Sample("q", sample.video, sample.query[:2], 6.0, 0.5)
    with pytest.raises(ConfigError, match="no features"):
        Sample("q", sample.video[:, :0], sample.query, 6.0, 0.5)
    with pytest.raises(ConfigError, match="must be positive"):
        collate([Sample("q", sample.video, sample.query, float("nan"), 0.5)])


def test_samples_without_moments_collate(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample(3, 4)
    labels = Labels(np.zeros((0, 2), np.float32), np.ones(3, np.float32), 0)
    targets = collate([sample.with_labels(labels)]).targets
    assert targets is not None
    assert targets.num_moments.tolist() == [0]
    assert targets.moments.shape == (1, 1, 2)
