"""Post-processing against the official evaluation, and decoding of batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r2t.store.errors import ConfigError
from r2t.train.data.batch import Sample, collate
from r2t.train.model.decode import DecodeConfig, Grounding, decode_predictions, postprocess

FLOAT32_SECONDS = 1e-5  # the official code post-processes in float32
CASES = {
    "unit2_normal0.7": DecodeConfig(unit_seconds=2),
    "unit0.1_linear": DecodeConfig(unit_seconds=0.1, suppression="linear"),
    "nounit_linear": DecodeConfig(suppression="linear"),
    "unit2_gauss0.5": DecodeConfig(unit_seconds=2, suppression="gaussian"),
    "unit2_nonms": DecodeConfig(unit_seconds=2, suppression="none"),
}


def ties_ordered(moments: np.ndarray) -> np.ndarray:
    """Sort rows of one score by time: the official sort leaves their order open."""
    scores = np.nan_to_num(-moments[:, 2].round(6), nan=-np.inf)
    order = np.lexsort((moments[:, 1].round(3), moments[:, 0].round(3), scores))
    return moments[order]


@pytest.mark.parametrize("file", ["nms_realistic", "nms_degenerate"])
@pytest.mark.parametrize("case", CASES)
def test_postprocessing_equals_the_official(file: str, case: str, golden_folder: Path) -> None:
    arrays = np.load(golden_folder / "post" / f"{file}.npz")
    inputs = [key for key in arrays.files if key.startswith("in/") and key.endswith("boundary")]
    assert len(inputs) >= 5
    for index in range(len(inputs)):
        raw = arrays[f"in/{index}/boundary"].astype(np.float64)
        duration = float(arrays[f"in/{index}/duration"])
        expected = arrays[f"out/{case}/{index}"]
        ours = postprocess(raw, duration, CASES[case], undefined_iou=np.nan)
        scores = np.nan_to_num(ours[:, 2], nan=np.inf)
        assert (scores[:-1] >= scores[1:]).all()
        np.testing.assert_allclose(
            ties_ordered(ours), ties_ordered(expected), rtol=0, atol=FLOAT32_SECONDS
        )


@pytest.mark.parametrize("case", CASES)
def test_moments_without_length_get_no_nan(case: str, golden_folder: Path) -> None:
    arrays = np.load(golden_folder / "post" / "nms_degenerate.npz")
    for index in range(6):
        raw = arrays[f"in/{index}/boundary"].astype(np.float64)
        ours = postprocess(raw, float(arrays[f"in/{index}/duration"]), CASES[case])
        assert np.isfinite(ours).all()
        assert len(ours) == len(raw)


def test_only_moments_inside_the_video_are_rounded() -> None:
    raw = np.array([[0.9, 5.1, 0.9], [3.3, 9.9, 0.8], [-2.0, 3.0, 0.7], [5.0, 7.0, 0.6]])
    config = DecodeConfig(unit_seconds=2, suppression="none")
    ours = postprocess(raw, 9.5, config)
    assert ours[:, :2].tolist() == [[0, 6], [3.3, 9.5], [0, 4], [4, 8]]  # 5 / 2 goes to even
    assert raw[2, 0] == -2


def test_hard_suppression_zeroes_at_the_threshold_and_drops_nothing() -> None:
    raw = np.array([[0.0, 20, 0.9], [0, 14, 0.8], [0, 13.9, 0.7], [30, 40, 0.1]])
    ours = postprocess(raw, 100.0, DecodeConfig())
    assert ours[:, 2].tolist() == [0.9, 0.7, 0.1, 0]  # an IoU of 14 / 20 is not below 0.7
    assert ours[3].tolist() == [0, 14, 0]


def test_soft_suppression_lowers_by_overlap() -> None:
    raw = np.array([[0.0, 10, 0.8], [5, 10, 0.6]])
    linear = postprocess(raw, 100.0, DecodeConfig(suppression="linear"))
    assert linear[1, 2] == pytest.approx(0.6 * 0.5)
    gaussian = postprocess(raw, 100.0, DecodeConfig(suppression="gaussian", sigma=0.5))
    assert gaussian[1, 2] == pytest.approx(0.6 * np.exp(-0.25 / 0.5))


@pytest.mark.parametrize("name", ["qvh_tiny", "hd_tiny"])
def test_a_batch_decodes_as_its_samples_alone(
    name: str, golden: Callable[..., Any], make_sample: Callable[..., Sample]
) -> None:
    model = golden(name).model().eval()
    moments = model.config.boundary_head
    config = DecodeConfig(unit_seconds=None, suppression="none", cosine_saliency=moments)
    samples = [make_sample(frames, words) for frames, words in ((15, 4), (1, 9), (20, 3), (7, 5))]
    batch = collate(samples)
    together = decode_predictions(model(batch), batch, config)
    for sample, ours in zip(samples, together, strict=True):
        single = collate([sample])
        (expected,) = decode_predictions(model(single), single, config)
        assert len(ours.saliency) == sample.video.shape[1]
        np.testing.assert_allclose(ours.saliency, expected.saliency, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours.moments, expected.moments, rtol=0, atol=1e-3)
        assert len(ours.moments) > 0 if moments else ours.moments.shape == (0, 3)
        assert ours.moments.size == 0 or ours.moments[:, 1].max() <= ours.duration_seconds


def test_no_more_moments_than_asked(
    golden: Callable[..., Any], make_sample: Callable[..., Sample]
) -> None:
    batch = collate([make_sample(20, 4)])
    predictions = golden("qvh_tiny").model().eval()(batch)
    (all_moments,) = decode_predictions(predictions, batch, DecodeConfig(suppression="none"))
    (three,) = decode_predictions(
        predictions, batch, DecodeConfig(suppression="none", max_moments=3)
    )
    assert len(all_moments.moments) == 37
    np.testing.assert_array_equal(three.moments, all_moments.moments[:3])


def test_grounding_shows_what_it_holds() -> None:
    rows = np.array([[2.0, 4.0, 0.9], [3.0, 3.0, 0.8], [2.0, 5.0, 0.7], [2.0, 4.5, 0.0]])
    grounding = Grounding(rows, np.zeros(7, np.float32), 0.5, 14.0, 0.0)
    assert repr(grounding) == "Grounding(2 moments, saliency of 7 frames, 14 s at 0.5 fps)"
    assert grounding.found().tolist() == [[2.0, 4.0, 0.9], [2.0, 5.0, 0.7]]
    assert grounding.found(1).tolist() == [[2.0, 4.0, 0.9]]
    with pytest.raises(ConfigError, match="duration_seconds"):
        Grounding(np.zeros((2, 3)), np.zeros(7, np.float32), 0.5, 0.0, 0.0)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("max_moments", 0), ("unit_seconds", 0.0), ("iou_threshold", 0.0), ("sigma", 0.0)],
)
def test_impossible_settings_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=setting):
        DecodeConfig(**{setting: value})
