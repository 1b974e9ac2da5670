"""Losses where the official code is undefined, and against formulas written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from r2t.store.errors import ConfigError
from r2t.train.data.batch import NO_POSITIVE, Batch, Labels, Sample, Targets, collate
from r2t.train.model.config import R2Config
from r2t.train.model.losses import LossConfig, Losses, compute_losses, match_points
from r2t.train.model.model import R2Model
from r2t.train.model.pyramid import PyramidPoints
from r2t.train.run.presets import find_preset


def losses_of(model: R2Model, batch: Batch, config: LossConfig) -> Losses:
    assert batch.targets is not None
    return compute_losses(model(batch), batch.targets, config)


def assert_finite_gradients(model: R2Model, losses: Losses) -> None:
    model.zero_grad()
    losses.total.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.fixture
def model(tiny_config: R2Config) -> R2Model:
    torch.manual_seed(0)
    return R2Model(tiny_config)


def test_column_contrast_has_finite_gradients_where_the_official_has_none(
    golden: Callable[..., Any], golden_folder: Path, load_golden_sample: Callable[..., Sample]
) -> None:
    arrays = dict(np.load(golden_folder / "edge" / "nan_quirk.npz"))
    model = golden("qvh_tiny").model(padding="official", dropout=0.0, drop_path=0.0).train()
    batch = collate([load_golden_sample(arrays, f"s{i}", 0.5) for i in range(3)])
    losses = losses_of(model, batch, find_preset("qvhighlights").loss_config("official"))
    names = {
        "loss_cls": losses.classification,
        "loss_reg": losses.boundary,
        "loss_sal": losses.saliency,
        "loss_video_cal": losses.video_calibration,
        "loss_layer_cal": losses.layer_calibration,
    }
    for name, loss in names.items():
        assert loss is not None
        assert loss.item() == pytest.approx(float(arrays[name]), abs=1e-6)
    assert_finite_gradients(model, losses)


def without_positives(batch: Batch) -> Batch:
    assert batch.targets is not None
    targets = Targets(
        moments=torch.zeros_like(batch.targets.moments),
        num_moments=torch.zeros_like(batch.targets.num_moments),
        saliency=torch.zeros_like(batch.targets.saliency),
        positive_frame=torch.full_like(batch.targets.positive_frame, NO_POSITIVE),
    )
    return replace(batch, targets=targets)


def test_a_batch_without_positives_has_zero_terms(
    model: R2Model, make_sample: Callable[..., Sample]
) -> None:
    batch = without_positives(collate([make_sample(9, 4), make_sample(5, 3)]))
    losses = losses_of(model, batch, LossConfig())
    terms = losses.terms()
    assert terms.pop("classification") > 0
    assert [term.item() for term in terms.values()] == [0, 0, 0, 0]
    assert_finite_gradients(model, losses)


def test_a_sample_without_a_positive_frame_stays_out_of_the_contrasts(
    model: R2Model, make_sample: Callable[..., Sample]
) -> None:
    samples = [make_sample(9, 4), make_sample(7, 5), make_sample(8, 3)]
    labels = samples[2].labels
    assert labels is not None
    unclear = samples[2].with_labels(Labels(labels.moments, labels.saliency, NO_POSITIVE))
    with_it = losses_of(model, collate([*samples[:2], unclear]), LossConfig())
    without = losses_of(model, collate(samples[:2]), LossConfig())
    for name in ("saliency", "video_calibration", "layer_calibration"):
        ours, expected = getattr(with_it, name), getattr(without, name)
        assert ours.item() == pytest.approx(expected.item(), abs=1e-6)
        assert expected > 0
    assert with_it.classification.item() != pytest.approx(without.classification.item(), abs=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 3, 7])
@pytest.mark.parametrize("name", ["qvhighlights", "youtube"])
def test_short_videos_train(
    frames: int, name: str, tiny_config: R2Config, make_sample: Callable[..., Sample]
) -> None:
    highlights = name == "youtube"
    config = replace(
        tiny_config,
        strides=(1,) if highlights else (1, 2, 4, 8),
        temporal_features=not highlights,
        boundary_head=not highlights,
    )
    model = R2Model(config)
    losses = losses_of(
        model, collate([make_sample(frames, 3)]), find_preset(name).loss_config("paper")
    )
    assert (losses.boundary is None) == highlights
    model.zero_grad()
    losses.total.backward()
    for parameter in model.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


def test_focal_alpha_weighs_positives_against_negatives(
    model: R2Model, make_sample: Callable[..., Sample]
) -> None:
    batch = collate([make_sample(9, 4), make_sample(16, 3)])
    assert batch.targets is not None
    predictions = model(batch)
    positive = match_points(predictions.points, predictions.point_mask, batch.targets).positive
    valid = predictions.point_mask
    assert 0 < positive.sum() < valid.sum()
    probability = predictions.class_logits.sigmoid()
    expected = (
        0.9 * ((1 - probability) ** 2 * -probability.log())[positive & valid].sum()
        + 0.1 * (probability**2 * -(1 - probability).log())[~positive & valid].sum()
    ) / valid.sum()
    losses = compute_losses(predictions, batch.targets, LossConfig())
    assert losses.classification.item() == pytest.approx(expected.item(), rel=1e-5)


def test_recipes_differ_where_paper_and_code_do(
    model: R2Model, make_sample: Callable[..., Sample]
) -> None:
    batch = collate([make_sample(9, 4), make_sample(16, 3)])
    paper = losses_of(model, batch, find_preset("charades").loss_config("paper"))
    official = losses_of(model, batch, find_preset("charades").loss_config("official"))
    assert paper.boundary is not None
    assert official.boundary is not None
    assert official.boundary.item() == pytest.approx(2 * paper.boundary.item(), rel=1e-6)
    assert official.saliency.item() == pytest.approx(0.1 * paper.saliency.item(), rel=1e-6)
    assert official.classification > paper.classification
    assert official.video_calibration == paper.video_calibration


def match(moments: list[list[float]], frames: int = 16) -> tuple[list[list[float]], torch.Tensor]:
    """Return [position, stride] of the positive points, and their offsets."""
    points = PyramidPoints.build((1, 2, 4, 8), frames, "cpu")
    targets = Targets(
        moments=torch.tensor([moments]),
        num_moments=torch.tensor([len(moments)]),
        saliency=torch.zeros(1, frames),
        positive_frame=torch.tensor([0]),
    )
    mask = torch.ones(1, len(points.position), dtype=torch.bool)
    matches = match_points(points, mask, targets)
    where = matches.positive[0]
    rows = torch.stack([points.position, points.stride], dim=1)[where]
    return rows.tolist(), matches.offsets[0][where]


def test_points_match_moments_of_their_size_near_the_centre() -> None:
    rows, offsets = match([[2.0, 5.0]])
    # At 2 and 5 the farther end is 3 away: level 2's. At 3 and 4 it is 2 away, in both ranges.
    assert rows == [[3, 1], [4, 1], [2, 2], [4, 2]]
    assert offsets.tolist() == [[1, 2], [2, 1], [0, 1.5], [1, 0.5]]


def test_the_shortest_of_several_moments_wins() -> None:
    rows, offsets = match([[2.0, 6.0], [3.0, 5.0]])
    assert offsets[rows.index([4, 1])].tolist() == [1, 1]
    assert offsets[rows.index([4, 2])].tolist() == [1, 1]  # too short a moment for this level


def test_points_far_from_the_centre_of_a_long_moment_do_not_match() -> None:
    rows, _ = match([[0.0, 40.0]], frames=48)
    assert rows == [[8, 8], [16, 8], [24, 8], [32, 8]]


def test_cells_that_reach_past_the_video_match_nothing(
    model: R2Model, make_sample: Callable[..., Sample]
) -> None:
    batch = collate([make_sample(5, 3, moments=[[0, 5]]), make_sample(16, 3)])
    assert batch.targets is not None
    predictions = model(batch)
    valid = predictions.point_mask
    matches = match_points(predictions.points, torch.ones_like(valid), batch.targets)
    assert (matches.positive & ~valid)[0].any()  # the cell of frames 4 and 5
    matches = match_points(predictions.points, valid, batch.targets)
    assert not (matches.positive & ~valid).any()
    assert matches.positive[0].any()


@pytest.mark.parametrize(("padding", "counts"), [("official", True), ("independent", False)])
def test_a_padded_point_at_the_end_of_a_moment_is_in_the_official_boundary_loss(
    padding: str, counts: bool, golden: Callable[..., Any], make_sample: Callable[..., Sample]
) -> None:
    model = golden("charades_tiny").model(padding=padding, dropout=0.0, drop_path=0.0).train()
    # Of twelve frames, in a batch of sixteen: the points at 12 are one past the last frame.
    batch = collate([make_sample(12, 4, moments=[[8, 12]]), make_sample(16, 3, moments=[[2, 7]])])
    assert batch.targets is not None
    predictions = model(batch)
    assert predictions.offsets is not None
    losses = compute_losses(
        predictions, batch.targets, find_preset("charades").loss_config("official")
    )
    distances: list[float] = []
    padded: list[float] = []
    points = predictions.points
    for row, ((start, end),) in enumerate(batch.targets.moments.tolist()):
        middle = (start + end) / 2
        for place, (at, stride) in enumerate(
            zip(points.position.tolist(), points.stride.tolist(), strict=True)
        ):
            farther = max(at - start, end - at)
            near = max(middle - 1.5 * stride, start) <= at <= min(middle + 1.5 * stride, end)
            if near and points.min_offset[place] <= farther <= points.max_offset[place]:
                wanted = torch.tensor([at - start, end - at]) / stride
                distance = (predictions.offsets[row, place] - wanted).abs().mean().item()
                beyond = at >= batch.num_frames[row]
                (padded if beyond else distances).append(distance)
                # The class loss leaves it out either way.
                assert predictions.point_mask[row, place] == (not beyond)
    assert len(padded) == 2  # at strides 2 and 4
    counted = distances + padded if counts else distances
    assert losses.boundary is not None
    assert losses.boundary.item() == pytest.approx(0.2 * sum(counted) / len(counted), rel=1e-5)
    changed = 0.2 * sum(distances + padded) / len(distances + padded)
    assert (losses.boundary.item() == pytest.approx(changed, rel=1e-5)) == counts


def test_padding_of_the_batch_changes_no_loss(
    model: R2Model, make_sample: Callable[..., Sample]
) -> None:
    sample = make_sample(13, 6)
    config = LossConfig()
    alone = losses_of(model, collate([sample]), config)
    batch = collate([sample, make_sample(20, 12)])
    padded = replace(
        batch,
        query_ids=batch.query_ids[:1],
        videos=batch.videos[:1],
        video_of_query=batch.video_of_query[:1],
        num_frames=batch.num_frames[:1],
        query=batch.query[:1],
        num_words=batch.num_words[:1],
        durations_seconds=batch.durations_seconds[:1],
        frame_rates_fps=batch.frame_rates_fps[:1],
        targets=first_targets(batch),
    )
    for name, term in losses_of(model, padded, config).terms().items():
        assert term.item() == pytest.approx(alone.terms()[name].item(), abs=1e-6), name


def first_targets(batch: Batch) -> Targets:
    assert batch.targets is not None
    return Targets(
        moments=batch.targets.moments[:1],
        num_moments=batch.targets.num_moments[:1],
        saliency=batch.targets.saliency[:1],
        positive_frame=batch.targets.positive_frame[:1],
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("focal_alpha", 1.5),
        ("focal_gamma", -1.0),
        ("boundary_weight", -0.1),
        ("layer_weight", float("nan")),
        ("temperature", 0.0),
    ],
)
def test_impossible_settings_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=setting):
        LossConfig(**{setting: value})
