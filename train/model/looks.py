"""Which look is used where.

All looks compute the same, but for rounding, and differ in what they cost:

- `ReferenceLook` maps every patch of every query's video. Nothing but a test or a benchmark asks
  for it.
- `TiledLook` is what training and evaluation use on every device. A video is read once for all its
  queries, and most of the arithmetic on patches moves to the words, which are fewer. On a processor
  its tiles stay in the cache, whatever the width is: a tile has as many frames as fit. On a GPU the
  tiles are large enough to keep it busy.
- `PreparedLook` is what `R2Model.answer` uses, on every device: whoever asks one video again does
  not pay for its patches twice. It needs them in memory, mapped, and gives no gradients, so nothing
  can be trained with it.
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
    """Return the look for a batch, on the device that it is on."""
    return TiledLook(config, batch, extents)
