"""The model and its losses against golden outputs of the official implementation."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from r2t.store.errors import ConfigError
from r2t.train.data.batch import Sample, collate
from r2t.train.model.config import R2Config
from r2t.train.model.decode import DecodeConfig, frame_saliency, raw_moments
from r2t.train.model.looks import MakeLook, choose_look
from r2t.train.model.losses import LossConfig, compute_losses, match_points
from r2t.train.model.model import Predictions, R2Model
from r2t.train.model.official import to_official_name
from r2t.train.model.padding import Extents
from r2t.train.model.refinement import DropPath
from r2t.train.model.whole_look import WholeLook

# The official code's own float32 noise against float64 is 2.4e-6 (hidden) to 8e-8 (losses).
HIDDEN_TOLERANCE = 1e-5
LOGIT_TOLERANCE = 5e-6
SALIENCY_TOLERANCE = 1e-6
SECONDS_TOLERANCE = 1e-4
LOSS_TOLERANCE = 1e-6
GRADIENT_RELATIVE_TOLERANCE = 1e-4
GRADIENT_FLOOR = 1e-6  # smaller reference gradients are noise
TRAJECTORY_TOLERANCE = 1e-5
ALONE_TOLERANCE = 1e-5

# Their gradient is zero but for rounding, which Adam blows up to steps of full length.
NOISE_PARAMETERS = (
    "adapter.v_map.bias",
    "adapter.tem.cross_att.k.bias",
    "adapter.tem.self_att.k.bias",
)
LOOKS = (choose_look, WholeLook)
CASES = ("qvh_tiny", "charades_tiny", "hd_tiny")
OFFICIAL_LOSS_NAMES = {
    "classification": "loss_cls",
    "boundary": "loss_reg",
    "saliency": "loss_sal",
    "video_calibration": "loss_video_cal",
    "layer_calibration": "loss_layer_cal",
}


def assert_close(ours: Tensor | np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    ours = ours.detach().numpy() if isinstance(ours, Tensor) else ours
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance)


def concatenated(arrays: dict[str, np.ndarray], prefix: str) -> np.ndarray:
    levels = [arrays[f"{prefix}_{i}"] for i in range(4) if f"{prefix}_{i}" in arrays]
    return np.concatenate(levels, axis=1)


def assert_block_matches(model: R2Model, batch: Any, arrays: dict[str, Any], key: str) -> None:
    independent = model.config.padding == "independent"
    extents = Extents.independent(batch) if independent else Extents.official(batch)
    look = model.make_look(model.config, batch, extents)
    output = model.block(look, batch.query, extents)
    assert_close(output.frames, arrays[f"{key}/adapter_h"], HIDDEN_TOLERANCE)
    assert_close(output.words, arrays[f"{key}/adapter_q"], HIDDEN_TOLERANCE)
    for layer in range(4):
        last_first = 3 - layer
        for ours, name in ((output.layer_frames, "coll_v"), (output.layer_words, "coll_q")):
            assert_close(ours[layer], arrays[f"{key}/{name}_{last_first}"], HIDDEN_TOLERANCE)
    for index, level in enumerate(model.pyramid(output.frames.relu())):
        assert_close(level, arrays[f"{key}/pymid_{index}"], HIDDEN_TOLERANCE)


def assert_heads_match(
    model: R2Model, predictions: Predictions, arrays: dict[str, Any], key: str
) -> None:
    points = predictions.points
    columns = [points.position, points.min_offset, points.max_offset, points.stride]
    assert_close(torch.stack(columns, dim=1), arrays[f"{key}/point"], 0)
    logits = concatenated(arrays, f"{key}/cls_logit")[..., 0]
    assert_close(predictions.class_logits, logits, LOGIT_TOLERANCE)
    if predictions.offsets is not None:
        level = predictions.points.stride.log2().long()
        raw = (predictions.offsets / model.level_scale[level, None]).log()
        assert_close(raw, concatenated(arrays, f"{key}/coord_raw"), LOGIT_TOLERANCE)


@pytest.mark.parametrize("make_look", LOOKS)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("index", range(3))
def test_outputs_of_single_samples(
    make_look: MakeLook, name: str, index: int, golden: Callable[..., Any]
) -> None:
    case, key = golden(name), f"eval/s{index}"
    model = case.model(make_look).eval()
    batch = collate([case.sample(f"b0/s{index}")])
    predictions = model(batch)
    assert_block_matches(model, batch, case.expected, key)
    assert_heads_match(model, predictions, case.expected, key)
    decoding = DecodeConfig(cosine_saliency=model.config.boundary_head)
    (saliency,) = frame_saliency(predictions, batch.num_frames.tolist(), decoding)
    assert_close(saliency, case.expected[f"{key}/saliency"], SALIENCY_TOLERANCE)
    if model.config.boundary_head:
        (moments,) = raw_moments(predictions, [len(saliency)], [case.meta["fps"]], 50)
        assert_close(moments, case.expected[f"{key}/boundary"], SECONDS_TOLERANCE)
    assert batch.targets is not None
    losses = compute_losses(predictions, batch.targets, case.losses).terms()
    for term, value in losses.items():
        expected = case.expected[f"{key}/val_{OFFICIAL_LOSS_NAMES[term]}"]
        assert_close(value, expected, LOSS_TOLERANCE)


@pytest.mark.parametrize("make_look", LOOKS)
@pytest.mark.parametrize("name", CASES)
def test_official_training_batch(
    make_look: MakeLook, name: str, golden: Callable[..., Any]
) -> None:
    case = golden(name)
    model = case.model(make_look, padding="official", dropout=0.0, drop_path=0.0).train()
    batch = case.batch(0)
    predictions = model(batch)
    assert_block_matches(model, batch, case.expected, "train")
    assert_heads_match(model, predictions, case.expected, "train")
    mask = concatenated(case.expected, "train/pymid_msk").astype(bool)
    np.testing.assert_array_equal(predictions.point_mask.numpy(), mask)
    for layer in range(4):
        pooled = case.expected[f"train/pooled_{4 - layer}"][:, 0]
        assert_close(predictions.layer_queries[layer], pooled, HIDDEN_TOLERANCE)
    assert batch.targets is not None
    if model.config.boundary_head:
        matches = match_points(predictions.points, predictions.point_mask, batch.targets)
        positive = case.expected["train/cls_tgt"].astype(bool)
        np.testing.assert_array_equal(matches.positive.numpy(), positive)
        expected = case.expected["train/reg_tgt"][positive]
        assert_close(matches.offsets[matches.positive], expected, HIDDEN_TOLERANCE)
    losses = compute_losses(predictions, batch.targets, case.losses)
    for term, value in losses.terms().items():
        assert_close(value, case.expected[f"train/{OFFICIAL_LOSS_NAMES[term]}"], LOSS_TOLERANCE)
    assert_close(losses.total, case.expected["train/loss"], LOSS_TOLERANCE)

    losses.total.backward()
    compared = 0
    for ours, parameter in model.named_parameters():
        official = to_official_name(ours)
        if official in NOISE_PARAMETERS or official in case.meta["params_without_grad"]:
            continue
        assert parameter.grad is not None, ours
        expected = case.expected[f"train/grad/{official}"]
        scale = np.abs(expected).max() + GRADIENT_FLOOR
        assert_close(parameter.grad / scale, expected / scale, GRADIENT_RELATIVE_TOLERANCE)
        compared += 1
    assert compared == len(case.meta["param_names"]) - 3 - len(case.meta["params_without_grad"])


@pytest.mark.parametrize("name", CASES)
def test_official_training_trajectory(name: str, golden: Callable[..., Any]) -> None:
    case = golden(name)
    model = case.model(padding="official", dropout=0.0, drop_path=0.0).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=case.meta["lr"], weight_decay=case.meta["weight_decay"]
    )
    columns = case.meta["traj_cols"]
    batches = [case.batch(index) for index in range(case.num_batches)]
    for step, row in enumerate(case.expected["traj/rows"]):
        batch = batches[step % len(batches)]
        assert batch.targets is not None
        losses = compute_losses(model(batch), batch.targets, case.losses)
        optimizer.zero_grad()
        losses.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), case.meta["clip"])
        optimizer.step()
        ours = {OFFICIAL_LOSS_NAMES[term]: value for term, value in losses.terms().items()}
        ours |= {"loss": losses.total, "grad_norm": norm}
        values = torch.stack([ours[column].detach() for column in columns])
        assert_close(values, row, TRAJECTORY_TOLERANCE)
    for ours, parameter in model.named_parameters():
        official = to_official_name(ours)
        if official in NOISE_PARAMETERS:
            continue
        index = case.meta["param_names"].index(official)
        head = parameter.detach().flatten()[:8]
        expected = case.expected["traj/param_head8"][index][: len(head)]
        assert_close(head, expected, TRAJECTORY_TOLERANCE)
        norm = case.expected["traj/param_norm"][index]
        assert parameter.norm().item() == pytest.approx(norm, rel=TRAJECTORY_TOLERANCE)


@pytest.mark.parametrize(
    ("prefix", "weights"), [("qvhighlights", "qvh_tiny"), ("youtube", "hd_tiny")]
)
def test_video_lengths_from_one_frame_up(
    prefix: str,
    weights: str,
    golden: Callable[..., Any],
    golden_folder: Path,
    load_golden_sample: Callable[..., Sample],
) -> None:
    arrays = dict(np.load(golden_folder / "edge" / "edge.npz"))
    model = golden(weights).model().eval()
    keys = [row[0] for row in json.loads((golden_folder / "edge" / "edge.json").read_text())]
    keys = [key for key in keys if key.startswith(prefix)]
    assert len(keys) == 16
    decoding = DecodeConfig(cosine_saliency=model.config.boundary_head)
    for key in keys:
        batch = collate([load_golden_sample(arrays, key, 0.5)])
        with torch.no_grad():
            predictions = model(batch)
        assert_heads_match(model, predictions, arrays, key)
        (saliency,) = frame_saliency(predictions, batch.num_frames.tolist(), decoding)
        assert_close(saliency, arrays[f"{key}/saliency"], SALIENCY_TOLERANCE)
        if model.config.boundary_head:
            (moments,) = raw_moments(predictions, [len(saliency)], [0.5], 50)
            assert_close(moments, arrays[f"{key}/boundary"], SECONDS_TOLERANCE)


SHAPES = ((1, 3), (20, 5), (9, 12), (3, 4), (17, 9))


def alone(model: R2Model, samples: list[Sample]) -> list[Predictions]:
    return [model(collate([sample])) for sample in samples]


@pytest.mark.parametrize("name", CASES)
def test_batched_outputs_are_those_alone(
    name: str, golden: Callable[..., Any], make_sample: Callable[..., Sample]
) -> None:
    model = golden(name).model(dropout=0.0, drop_path=0.0).train()
    samples = [make_sample(frames, words) for frames, words in SHAPES]
    together = model(collate(samples))
    for row, single in enumerate(alone(model, samples)):
        valid, frames = together.point_mask[row], together.frame_mask[row]
        pairs = [
            (together.class_logits[row, valid], single.class_logits[0]),
            (together.saliency[row, frames], single.saliency[0]),
            (together.layer_frames[:, row, frames], single.layer_frames[:, 0]),
            (together.layer_queries[:, row], single.layer_queries[:, 0]),
        ]
        if together.offsets is not None and single.offsets is not None:
            pairs.append((together.offsets[row, valid], single.offsets[0]))
        for batched, expected in pairs:
            torch.testing.assert_close(batched, expected, rtol=0, atol=ALONE_TOLERANCE)


def test_batched_gradients_are_those_alone(
    golden: Callable[..., Any], make_sample: Callable[..., Sample]
) -> None:
    model = golden("qvh_tiny").model(dropout=0.0, drop_path=0.0).train()
    samples = [make_sample(frames, words) for frames, words in SHAPES]

    def gradients(predictions: list[Predictions]) -> list[Tensor]:
        outputs = [
            (p.class_logits[p.point_mask].sum() + p.saliency[p.frame_mask].square().sum())
            for p in predictions
        ]
        model.zero_grad()
        torch.stack(outputs).sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    together = gradients([model(collate(samples))])
    apart = gradients(alone(model, samples))
    assert len(together) == len(apart) > 70
    for batched, expected in zip(together, apart, strict=True):
        torch.testing.assert_close(batched, expected, rtol=1e-3, atol=1e-3)


def test_official_padding_lets_the_batch_through_in_training_alone(
    golden: Callable[..., Any], make_sample: Callable[..., Sample]
) -> None:
    model = golden("qvh_tiny").model(padding="official", dropout=0.0, drop_path=0.0)
    samples = [make_sample(9, 12), make_sample(20, 5)]

    def largest_difference() -> float:
        together, (single, _) = model(collate(samples)), alone(model, samples)
        return (together.class_logits[0, :9] - single.class_logits[0, :9]).abs().max().item()

    model.train()
    assert largest_difference() > 1e-3
    model.eval()
    assert largest_difference() < LOGIT_TOLERANCE


def test_a_cell_past_the_last_whole_one_is_not_valid(make_sample: Callable[..., Sample]) -> None:
    batch = collate([make_sample(5, 3), make_sample(8, 3)])
    assert Extents.independent(batch).cell_mask(2).sum(dim=1).tolist() == [2, 4]
    assert Extents.official(batch).cell_mask(2).sum(dim=1).tolist() == [3, 4]


def test_mixed_precision_stays_inside_block_and_pyramid(
    golden: Callable[..., Any], make_sample: Callable[..., Sample]
) -> None:
    model = golden("qvh_tiny").model().eval()
    batch = collate([make_sample(9, 12), make_sample(20, 5)])
    exact = model(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(batch)
        assert batch.targets is not None
        losses = compute_losses(mixed, batch.targets, LossConfig())
    assert losses.total.dtype == torch.float32
    valid = mixed.point_mask
    pairs = [
        (mixed.class_logits[valid], exact.class_logits[valid]),
        (mixed.saliency[mixed.frame_mask], exact.saliency[mixed.frame_mask]),
        (mixed.layer_queries, exact.layer_queries),
    ]
    for ours, expected in pairs:
        assert ours.dtype == torch.float32
        assert not torch.equal(ours, expected)
        torch.testing.assert_close(ours, expected, rtol=0.05, atol=0.1)


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (R2Config(), 2_836_242),
        (R2Config(strides=(1,), temporal_features=False, boundary_head=False), 1_846_281),
    ],
)
def test_number_of_parameters_is_the_official(config: R2Config, count: int) -> None:
    assert sum(parameter.numel() for parameter in R2Model(config).parameters()) == count


def test_initial_weights_follow_the_official_distributions() -> None:
    torch.manual_seed(0)
    model = R2Model(R2Config())
    refinement = model.block.refinement
    state = model.block.state_dict()
    assert state["pooled_gate"].tolist() == [0] * 4
    assert state["recurrent_gate"].tolist() == [0] * 3
    assert model.level_scale.tolist() == [1] * 4
    bound = (6 / 512) ** 0.5
    assert 0.99 * bound < refinement.self_attention.key.weight.abs().max() <= bound
    assert refinement.expand.weight.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.01)
    assert refinement.contract.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.01)
    assert not refinement.self_attention.key.bias.any()
    assert not refinement.expand.bias.any()


def test_drop_path_drops_whole_samples_and_keeps_the_expectation() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25)
    branch = torch.ones(4000, 2, 3)
    kept = drop(branch)
    assert set(kept.unique().tolist()) == {0, torch.tensor(1 / 0.75).item()}
    assert (kept.flatten(1).std(dim=1) == 0).all()
    assert kept.mean().item() == pytest.approx(1, abs=0.03)
    assert drop.eval()(branch) is branch


def test_features_of_other_widths_are_refused(
    tiny_config: R2Config, make_sample: Callable[..., Sample]
) -> None:
    model = R2Model(replace(tiny_config, vision_width=64))
    with pytest.raises(ConfigError, match=r"\(4, 48, 32\).*\(4, 64, 32\)"):
        model(collate([make_sample(4, 3)]))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("num_layers", 0),
        ("width", 100),
        ("strides", (1, 3)),
        ("strides", (2, 4)),
        ("dropout", 1.0),
    ],
)
def test_impossible_settings_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=setting):
        R2Config(**{setting: value})
