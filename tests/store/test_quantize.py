"""Eight-bit codes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from r2t.store.quantize import Affine, ChannelRange, Quantizer, affine_range, dequantize

TOKENS = hnp.arrays(
    np.float16,
    st.tuples(*(st.integers(1, 4) for _ in range(4))),
    elements=st.floats(-60000, 60000, width=16),
)


def range_of(*parts: np.ndarray) -> Affine:
    found = ChannelRange(parts[0].shape[0], parts[0].shape[-1])
    for tokens in parts:
        found.add(tokens)
    return found.affine()


def quantize(tokens: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
    return Quantizer(scale, offset).encode(tokens)


@given(TOKENS)
def test_the_error_is_at_most_half_a_step(tokens: np.ndarray) -> None:
    exact = tokens.astype(np.float32)
    scale, offset = range_of(tokens)
    codes = quantize(tokens, scale, offset)
    assert codes.dtype == np.int8
    assert codes.shape == tokens.shape
    error = np.abs(dequantize(codes, scale, offset) - exact)
    rounding = 1e-6 * np.abs(exact).max()  # of scale and offset to float32
    assert (error <= scale[:, None, None, :] / 2 + rounding).all()


def test_constant_channels_come_back_exactly() -> None:
    tokens = np.random.default_rng(0).standard_normal((2, 5, 3, 4)).astype(np.float16)
    tokens[0, :, :, 1] = 0.1
    tokens[1, :, :, 3] = -60000
    exact = tokens.astype(np.float32)
    scale, offset = range_of(tokens)
    assert np.argwhere(scale == 0).tolist() == [[0, 1], [1, 3]]
    back = dequantize(quantize(tokens, scale, offset), scale, offset)
    assert (back[0, :, :, 1] == exact[0, :, :, 1]).all()
    assert (back[1, :, :, 3] == exact[1, :, :, 3]).all()


def test_the_extremes_of_a_channel_take_the_extreme_codes() -> None:
    tokens = np.linspace(-1, 3, 256).astype(np.float16).reshape(1, 256, 1, 1)
    scale, offset = affine_range(np.array([[-1]], np.float32), np.array([[3]], np.float32))
    codes = quantize(tokens, scale, offset).ravel()
    assert codes[0] == -128
    assert codes[-1] == 127
    assert (np.diff(codes.astype(int)) >= 0).all()


def every_finite_float16() -> np.ndarray:
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    return values[np.isfinite(values)]


def test_codes_are_those_of_the_formula_bit_for_bit() -> None:
    """Of every float16 there is, in channels of every size, over more rows than one block has."""
    values = every_finite_float16()
    rng = np.random.default_rng(0)
    sizes = np.array([1, 1e-2, 1e-4, 6e-8, 0], np.float64)
    tokens = (rng.permuted(values).reshape(2, -1, 16, 1) * sizes).astype(np.float16)
    exact = tokens.astype(np.float32)
    scale, offset = range_of(tokens[:, :100], tokens[:, 100:])
    plain = affine_range(exact.min(axis=(1, 2)), exact.max(axis=(1, 2)))
    for mine, other in zip((scale, offset), plain, strict=True):
        assert mine.tobytes() == other.tobytes()
    scale[0, 1] /= 2  # so that some values lie outside of the codes
    across = (slice(None), None, None, slice(None))
    safe = np.where(scale > 0, scale, 1)[across]
    expected = np.clip(np.rint((exact - offset[across]) / safe), -128, 127)
    assert (quantize(tokens, scale, offset) == np.where(scale[across] > 0, expected, 0)).all()


def test_errors_are_those_of_float64() -> None:
    rng = np.random.default_rng(0)
    tokens = (rng.standard_normal((3, 60, 50, 32)) * [[[[1]]], [[[100]]], [[[1e-3]]]]).astype("<f2")
    tokens[0, 0, :2] = 0
    quantizer = Quantizer(*(affine := range_of(tokens)))
    codes = np.concatenate([quantizer.encode(tokens[:, :7]), quantizer.encode(tokens[:, 7:])], 1)
    exact, decoded = tokens.astype(np.float64), dequantize(codes, *affine).astype(np.float64)
    length = np.linalg.norm(exact, axis=-1)
    distance = np.linalg.norm(decoded - exact, axis=-1) / np.where(length > 0, length, 1)
    product = np.where(length > 0, length, 1) * np.linalg.norm(decoded, axis=-1)
    cosine = np.where(length > 0, 1 - (exact * decoded).sum(axis=-1) / product, 0)
    found = quantizer.errors()
    for name, values in {"relative_l2": distance, "cosine_distance": cosine}.items():
        np.testing.assert_allclose(found[f"{name}_mean"], values.mean(axis=(1, 2)), rtol=1e-5)
        np.testing.assert_allclose(found[f"{name}_max"], values.max(axis=(1, 2)), rtol=1e-5)


def test_a_token_that_is_coded_as_nothing_is_as_far_off_as_can_be() -> None:
    tokens = np.array([[[[0, 1]], [[0, 0.25]]]], np.float16)
    quantizer = Quantizer(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32))
    assert (quantizer.encode(tokens) == 0).all()
    assert quantizer.errors()["relative_l2_max"] == [1]
    assert quantizer.errors()["cosine_distance_mean"] == [1]
