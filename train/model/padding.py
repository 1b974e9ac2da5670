"""What is real in a padded batch, and what the padding of a batch may influence.

Here a sample's outputs are, by default, those it has alone: nothing it is batched with, in training
or in evaluation, changes them beyond float noise. The official implementation lets padding through
in four places (the maximum over words, time features and position code of the padded length, the
convolutions, a pyramid cell that is valid if any of its frames is), which is why its own evaluation
runs one sample at a time. `Extents.official` reproduces that for training alone; an evaluation that
lets no padding through gives the answers of one sample at a time, whatever it batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from r2t.train.data import Batch, mask_of


@dataclass(frozen=True, eq=False)
class Extents:
    """Which frames, words and pyramid cells count.

    `time_lengths` is the number of frames that positions in time are relative to. Only words in
    `competing_words` take part in the maximum over words. `isolated`: padding is zeroed before
    every convolution that would mix it into real cells.
    """

    num_frames: Int64[Tensor, " batch"]
    frame_mask: Bool[Tensor, "batch frames"]
    word_mask: Bool[Tensor, "batch words"]
    time_lengths: Int64[Tensor, " batch"]
    competing_words: Bool[Tensor, "batch words"]
    isolated: bool

    @classmethod
    def independent(cls, batch: Batch) -> Extents:
        """Keep each sample as it is alone."""
        return cls.alone(batch.num_frames, batch.frame_mask, batch.word_mask)

    @classmethod
    def alone(
        cls,
        num_frames: Int64[Tensor, " batch"],
        frame_mask: Bool[Tensor, "batch frames"],
        word_mask: Bool[Tensor, "batch words"],
    ) -> Extents:
        """Keep each of these samples as it is alone."""
        return cls(
            num_frames=num_frames,
            frame_mask=frame_mask,
            word_mask=word_mask,
            time_lengths=num_frames,
            competing_words=word_mask,
            isolated=True,
        )

    @classmethod
    def official(cls, batch: Batch) -> Extents:
        """Let padding through where the official implementation does."""
        return cls(
            num_frames=batch.num_frames,
            frame_mask=batch.frame_mask,
            word_mask=batch.word_mask,
            time_lengths=torch.full_like(batch.num_frames, batch.videos.shape[2]),
            competing_words=torch.ones_like(batch.word_mask),
            isolated=False,
        )

    def cell_mask(self, stride: int) -> Bool[Tensor, "batch cells"]:
        """Return True at the valid cells of the pyramid level of this stride."""
        num_cells = self.frame_mask.shape[1] // stride
        if self.isolated:
            return mask_of(self.num_frames // stride, num_cells)
        return mask_of((self.num_frames + stride - 1) // stride, num_cells)
