"""The parameters of the map of patches, and their gradients while tiles add them up."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class MapWeights(NamedTuple):
    """Parameters of a map: a norm and a linear layer on its input, and the same on its output."""

    input_gain: Tensor
    input_shift: Tensor
    input_weight: Tensor
    input_bias: Tensor
    output_gain: Tensor
    output_shift: Tensor
    output_weight: Tensor
    output_bias: Tensor

    def scaled(self, dropout: float) -> MapWeights:
        """Let the norms scale what dropout keeps."""
        if not dropout:
            return self
        scale = 1 / (1 - dropout)
        return self._replace(
            input_gain=self.input_gain * scale,
            input_shift=self.input_shift * scale,
            output_gain=self.output_gain * scale,
            output_shift=self.output_shift * scale,
        )


class MapGradients(NamedTuple):
    """Gradients of the map, as tiles add them up: views of one tensor.

    Until `finish`, `map.input_weight` is A and `kept_inputs` is B of `spatial_pooling`.
    """

    together: Tensor
    map: MapWeights
    kept_inputs: Tensor

    @classmethod
    def zero(cls, weights: MapWeights) -> MapGradients:
        shapes = (*weights, weights.input_weight)
        sizes = [like.numel() for like in shapes]
        together = weights.input_weight.new_zeros(sum(sizes))
        views = zip(together.split(sizes), shapes, strict=True)
        *of_map, kept_inputs = [view.view_as(like) for view, like in views]
        return cls(together, MapWeights(*of_map), kept_inputs)

    def add_(self, other: MapGradients) -> MapGradients:
        """Add another part of the gradients."""
        self.together.add_(other.together)
        return self

    def finish(self, weights: MapWeights, dropout: float) -> MapWeights:
        """Return the gradients of the map's parameters."""
        scale = 1 / (1 - dropout)
        with_inputs = self.map.input_weight * scale
        if dropout:
            with_kept = self.kept_inputs * scale
        else:
            with_kept = self.map.input_bias[:, None].expand_as(with_inputs)
        return self.map._replace(
            input_gain=(weights.input_weight * with_inputs).sum(dim=0),
            input_shift=(weights.input_weight * with_kept).sum(dim=0),
            input_weight=with_inputs * weights.input_gain + with_kept * weights.input_shift,
        )
