"""From a decoded picture to what CLIP looks at: upright, resized, cropped, for any decoder.

The order is that of the official extraction (resize the short side, then crop the centre), on RGB
bytes and with Pillow's bicubic filter, which widens with the scale and so does not alias.
"""

from __future__ import annotations

from dataclasses import dataclass

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image


@dataclass(frozen=True)
class Orientation:
    """How stored pictures are turned for the screen: transpose first, then mirror."""

    transposed: bool = False
    mirrored_across: bool = False  # left and right change places
    mirrored_down: bool = False  # top and bottom change places

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Orientation:
        """Read a frame's display matrix, of which the nearest right angle counts."""
        try:
            side_data = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # PyAV has no name for another kind of side data on this frame
            return cls.turned(frame.rotation)
        if side_data is None:
            return cls()
        # Rows map (x, y, 1): x' = a·x + c·y, y' = b·x + d·y in 16.16 fixed point.
        matrix = np.frombuffer(bytes(side_data), np.int32)
        a, b, c, d = (int(matrix[index]) for index in (0, 1, 3, 4))
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    @classmethod
    def turned(cls, degrees: float) -> Orientation:
        """Return the turn nearest to this many degrees counterclockwise."""
        return _TURNS[round(-degrees / 90) % 4]

    @property
    def rotation(self) -> int:
        """Clockwise degrees of the turn; a mirroring that is no turn counts as none."""
        return 90 * _TURNS.index(self) if self in _TURNS else 0

    @property
    def mirrored(self) -> bool:
        """Whether writing would read backwards if the pictures were only turned."""
        return self.transposed ^ self.mirrored_across ^ self.mirrored_down

    def apply(
        self, rgb: UInt8[np.ndarray, "height width 3"]
    ) -> UInt8[np.ndarray, "shown_height shown_width 3"]:
        """Return the picture as it is to be shown, a view of the same bytes."""
        if self.transposed:
            rgb = rgb.transpose(1, 0, 2)
        return rgb[:: -1 if self.mirrored_down else 1, :: -1 if self.mirrored_across else 1]


# No turn, then a quarter, a half and three quarters clockwise.
_TURNS = (
    Orientation(),
    Orientation(transposed=True, mirrored_across=True),
    Orientation(mirrored_across=True, mirrored_down=True),
    Orientation(transposed=True, mirrored_down=True),
)


def resize_and_crop(
    rgb: UInt8[np.ndarray, "height width 3"], size: int
) -> UInt8[np.ndarray, "3 size size"]:
    """Bring the short side to `size` and the long side in proportion, then keep the centre."""
    height, width = rgb.shape[:2]
    short = min(height, width)
    new_width, new_height = width * size // short, height * size // short
    image = Image.fromarray(np.ascontiguousarray(rgb))
    if (new_width, new_height) != (width, height):
        image = image.resize((new_width, new_height), Image.Resampling.BICUBIC)
    left, top = (new_width - size) // 2, (new_height - size) // 2
    image = image.crop((left, top, left + size, top + size))
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
