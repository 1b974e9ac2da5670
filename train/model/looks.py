"""Which look is used where.

All looks compute the same up to rounding; they differ in what they cost.

- `ReferenceLook` follows the formulas line by line and maps every patch for every query. Only tests
  and benchmarks use it.
- `TiledLook` is used in training and evaluation. It reads a video once for all of its queries and
  moves most of the arithmetic from the patches to the words, of which there are fewer. A tile has
  as many frames of the given width as fit into a CPU's cache, or as keep a GPU busy, so this one
  look serves every width and both kinds of device.
- `PreparedLook` is used by `R2Model.refine`, on any device, so that asking a video again does not
  map its patches again. It needs all of them in memory and computes no gradients.
"""

from __future__ import annotations

from collections.abc import Callable

from r2t.train.data import Batch
from r2t.train.model.config import R2Config
from r2t.train.model.padding import Extents
from r2t.train.model.r2_block import Look
from r2t.train.model.tiled_look import TiledLook

MakeLook = Callable[[R2Config, Batch, Extents], Look]


def choose_look(config: R2Config, batch: Batch, extents: Extents) -> Look:
    """Return the look for a batch in training or evaluation, on the device that holds it."""
    return TiledLook(config, batch, extents)
