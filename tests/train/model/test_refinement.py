"""Attention over frames and words: which of torch's ways a GPU takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from r2t.train.model.refinement import Attention, TemporalRefinement


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, ...]]:
    """Note with each attention whether cuDNN, flash, memory-efficient and plain are allowed."""
    seen: list[tuple[bool, ...]] = []
    attend = F.scaled_dot_product_attention

    def note(*tensors: Any, **arguments: Any) -> Tensor:
        on = torch.backends.cuda
        seen.append(
            (
                on.cudnn_sdp_enabled(),
                on.flash_sdp_enabled(),
                on.mem_efficient_sdp_enabled(),
                on.math_sdp_enabled(),
            )
        )
        return attend(*tensors, **arguments)

    monkeypatch.setattr(F, "scaled_dot_product_attention", note)
    return seen


@pytest.mark.parametrize(
    ("device", "with_gradients", "expected"),
    [
        ("cuda", True, (False, False, False, True)),
        ("cuda", False, (False, False, True, True)),
        ("cpu", True, (True, True, True, True)),  # as torch has it
    ],
)
def test_a_gpu_attends_the_same_way_every_time(
    device: str,
    with_gradients: bool,
    expected: tuple[bool, ...],
    allowed: list[tuple[bool, ...]],
) -> None:
    # Tensors without numbers may claim any device.
    with FakeTensorMode(), torch.device(device), torch.set_grad_enabled(with_gradients):
        refinement = TemporalRefinement(16, num_heads=2, drop_path=0.0)
        frames, words = torch.empty(2, 5, 16), torch.empty(2, 3, 16)
        masks = torch.empty(2, 5, dtype=torch.bool), torch.empty(2, 3, dtype=torch.bool)
        refined = refinement(frames, words, frames, *masks)
        assert refined.device.type == device
    assert allowed == [expected, expected]


def test_frames_see_no_masked_words() -> None:
    torch.manual_seed(0)
    attention = Attention(16, num_heads=2)
    frames, words = torch.randn(1, 5, 16), torch.randn(1, 3, 16)
    alone = attention(frames, words[:, :2], words[:, :2], torch.tensor([[True, True]]))
    masked = attention(frames, words, words, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(masked, alone)
