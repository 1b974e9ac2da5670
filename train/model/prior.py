"""CLIP's own alignment of frames and sentence, handed to the model beside its hidden states."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from r2t.train.data import NUM_PRIORS


class PriorMap(nn.Module):
    """Adds the prior to the frames that the R² Block has refined, through one linear layer.

    Pyramid and saliency read the sum.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(NUM_PRIORS, width)

    def forward(
        self, frames: Float[Tensor, "batch frames width"], prior: Float[Tensor, "batch frames 2"]
    ) -> Float[Tensor, "batch frames width"]:
        """Return the frames with what the prior says of them."""
        return frames + self.linear(prior)
