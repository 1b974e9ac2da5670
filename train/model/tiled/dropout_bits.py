"""Dropout masks as packed bits: 32 to an integer, drawn, kept and applied many at a time.

PyTorch's own mask is a number for each element, drawn one by one. A bit is enough to remember which
elements live, and random integers bring 64 of them at once.
"""

from __future__ import annotations

import torch
from jaxtyping import Int32
from torch import Tensor

_RATE_BITS = 16
_INTEGERS = {4: torch.int32, 8: torch.int64}


def draw_kept(
    num_elements: int, rate: float, generator: torch.Generator
) -> Int32[Tensor, " integers"]:
    """Draw bits that are 1, for "kept", with probability 1 - `rate` to within 2⁻¹⁶.

    Comparing random binary fractions with 1 - `rate`, digit by digit from the last: where the
    threshold has a 1, a random 0 is below it whatever follows, so the outcome is `~random | later`;
    where it has a 0, it is `~random & later`. Half of the random bits are 1 either way, so they
    need no negation. A rate of a half takes one digit.
    """
    threshold = min(max(1, round((1 - rate) * 2**_RATE_BITS)), 2**_RATE_BITS - 1)
    pairs = -(-num_elements // 64)
    kept = torch.zeros(pairs, dtype=torch.int64, device=generator.device)
    for digit in range(_RATE_BITS):
        if threshold % 2 ** (digit + 1) == 0:
            continue  # only zeros so far: nothing is below yet
        drawn = torch.empty_like(kept).random_(-(2**63), None, generator=generator)
        if threshold >> digit & 1:
            kept |= drawn
        else:
            kept &= drawn
    return kept.view(torch.int32)


def spread(kept: Int32[Tensor, " integers"], like: Tensor) -> Tensor:
    """Return an integer for each element of a tensor, as wide: all bits set if kept, else none.

    Bit b of integer i stands for element b · (number of integers) + i.
    """
    places = torch.arange(32, dtype=torch.int32, device=kept.device)
    # An element's own bit goes to the sign and from there to all others.
    masks = (kept << places[:, None]).bitwise_right_shift_(31)
    return masks.view(-1)[: like.numel()].to(_INTEGERS[like.element_size()]).view(like.shape)


def keep_(values: Tensor, masks: Tensor | None) -> Tensor:
    """Zero in place what spread masks drop of a tensor; None keeps all."""
    if masks is not None:
        values.view(masks.dtype).bitwise_and_(masks)
    return values


def as_numbers_(masks: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn spread masks into 1 for kept and 0 for dropped, in place."""
    one = torch.ones((), dtype=dtype, device=masks.device).view(masks.dtype)
    return masks.bitwise_and_(one).view(dtype)
