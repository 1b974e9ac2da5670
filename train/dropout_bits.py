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


def draw_kept(num_elements: int, rate: float, device: torch.device) -> Int32[Tensor, " integers"]:
    """Draw bits that are 1, for "kept", with probability 1 - `rate` to within 2⁻¹⁶.

    Comparing random binary fractions with 1 - `rate`, digit by digit from the last: where the
    threshold has a 1, a random 0 is below it whatever follows, so the outcome is `~random | later`;
    where it has a 0, it is `~random & later`. Half of the random bits are 1 either way, so they
    need no negation. A rate of a half takes one digit.
    """
    threshold = min(max(1, round((1 - rate) * 2**_RATE_BITS)), 2**_RATE_BITS - 1)
    pairs = -(-num_elements // 64)
    kept = torch.zeros(pairs, dtype=torch.int64, device=device)
    for digit in range(_RATE_BITS):
        if threshold % 2 ** (digit + 1) == 0:
            continue  # only zeros so far: nothing is below yet
        drawn = torch.empty_like(kept).random_(-(2**63), None)
        if threshold >> digit & 1:
            kept |= drawn
        else:
            kept &= drawn
    return kept.view(torch.int32)


def keep_(values: Tensor, kept: Int32[Tensor, " integers"] | None) -> Tensor:
    """Zero in place the elements of a contiguous float tensor whose bits are 0; None keeps all."""
    if kept is not None:
        integers = _INTEGERS[values.element_size()]
        places = torch.arange(32, dtype=torch.int32, device=kept.device)
        masks = torch.bitwise_left_shift(kept, places[:, None]).bitwise_right_shift_(
            31
        )  # all bits of a kept element set
        flat = values.view(integers).view(-1)
        flat.bitwise_and_(masks.view(-1)[: len(flat)].to(integers))
    return values


def as_numbers(kept: Int32[Tensor, " integers"], like: Tensor) -> Tensor:
    """Return 1 for kept and 0 for dropped, in the shape and dtype of a tensor."""
    return keep_(torch.ones_like(like), kept)
