"""Samples padded into batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from r2t.store.errors import ConfigError
from r2t.train.data.batch import Labels, Sample, collate


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
