"""Eight-bit codes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from r2t.store.quantize import affine_range, dequantize, quantize

TOKENS = hnp.arrays(
    np.float16,
    st.tuples(*(st.integers(1, 4) for _ in range(4))),
    elements=st.floats(-60000, 60000, width=16),
)


@given(TOKENS)
def test_the_error_is_at_most_half_a_step(tokens: np.ndarray) -> None:
    exact = tokens.astype(np.float32)
    scale, offset = affine_range(exact.min(axis=(1, 2)), exact.max(axis=(1, 2)))
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
    scale, offset = affine_range(exact.min(axis=(1, 2)), exact.max(axis=(1, 2)))
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
