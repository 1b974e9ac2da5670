"""Pictures of scenes: shapes by their signed distance, one soft pixel at the edge."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from r2t.extract.demo.scene import SIDE, Background, Colour, Pose, Scene, Shape

RGB: dict[Colour, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "yellow": (235, 210, 40),
    "green": (40, 180, 70),
    "blue": (45, 90, 230),
    "purple": (165, 60, 200),
    "white": (245, 245, 245),
}
_AXIS = np.arange(SIDE, dtype=np.float32) + 0.5  # pixel centres


class Painter:
    """Paints the frames of one scene."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._canvas = _canvas(scene.background)

    def __call__(self, time_seconds: float) -> UInt8[ndarray, "height width 3"]:
        """Paint the frame shown at a time."""
        drift = self._scene.background.drift_pixels_per_second * time_seconds
        frame = np.roll(self._canvas, round(drift), axis=1)[:, :SIDE].copy()
        for seen in self._scene.sightings(time_seconds):
            _draw(frame, seen.actor.shape, RGB[seen.actor.colour], seen.pose)
        return (frame + 0.5).astype(np.uint8)


def _draw(
    frame: Float[ndarray, "height width 3"],
    shape: Shape,
    colour: tuple[int, int, int],
    pose: Pose,
) -> None:
    """Blend a shape into a frame, touching only the pixels around it."""
    reach = 1.25 * pose.radius + 1
    left, right = max(int(pose.x - reach), 0), min(int(pose.x + reach) + 1, SIDE)
    top, bottom = max(int(pose.y - reach), 0), min(int(pose.y + reach) + 1, SIDE)
    x, y = _AXIS[left:right][None] - pose.x, _AXIS[top:bottom][:, None] - pose.y
    if pose.angle:
        cos, sin = math.cos(math.radians(pose.angle)), math.sin(math.radians(pose.angle))
        x, y = cos * x + sin * y, cos * y - sin * x
    inside = np.clip(0.5 - signed_distance(shape, x, y, pose.radius), 0, 1)[..., None]
    patch = frame[top:bottom, left:right]
    patch += inside * (np.asarray(colour, dtype=np.float32) - patch)


def signed_distance(shape: Shape, x: ndarray, y: ndarray, radius: float) -> ndarray:
    """Return the distance to a shape's edge in pixels, negative inside; x and y from its centre."""
    match shape:
        case "circle":
            return np.hypot(x, y) - radius
        case "ring":
            return np.abs(np.hypot(x, y) - 0.75 * radius) - 0.25 * radius
        case "square":
            return np.maximum(np.abs(x), np.abs(y)) - 0.88 * radius
        case "cross":
            long, short = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
            return np.maximum(long - radius, short - 0.32 * radius)
        case "triangle":  # corners at 1.15 radius, one of them upwards
            slope = math.sqrt(3) / 2 * np.abs(x) - y / 2
            return np.maximum(slope, y) - 0.575 * radius


def _canvas(background: Background) -> Float[ndarray, "height width 3"]:
    """Paint the background once, wider than a frame and periodic, to be rolled past it."""
    rng = np.random.default_rng(background.seed)
    width = 2 * SIDE
    # Whole periods per canvas width: rolling never shows a seam.
    across = max(1, round(width / background.wavelength))
    tilt = math.tan(math.radians(background.direction_degrees - 90)) if across else 0.0
    x = np.arange(width)[None] / width
    y = np.arange(SIDE)[:, None] / SIDE
    phase = 2 * math.pi * (across * x + np.clip(tilt, -4, 4) * y)
    match background.pattern:
        case "plain":
            mix = np.full((SIDE, width), 0.5)
        case "gradient":
            mix = np.broadcast_to(y, (SIDE, width))
        case "stripes":
            mix = np.clip(0.5 + 3 * np.sin(phase), 0, 1)
        case "waves":
            mix = 0.5 + 0.5 * np.sin(phase + 2 * np.sin(4 * math.pi * y))
        case "clouds":
            coarse = rng.random((5, 8))
            rows = np.linspace(0, 3.999, SIDE)
            columns = np.arange(width) * 8 / width
            mix = _bilinear(coarse, rows, columns)
    dark, light = np.asarray(background.dark), np.asarray(background.light)
    canvas = dark + mix[..., None] * (light - dark) + rng.normal(0, 2, (SIDE, width, 1))
    return np.clip(canvas, 0, 254).astype(np.float32)


def _bilinear(grid: ndarray, rows: ndarray, columns: ndarray) -> ndarray:
    """Sample a grid between its points; columns wrap around."""
    r, c = rows.astype(int), columns.astype(int)
    down, right = (rows - r)[:, None], (columns - c)[None]
    next_c = (c + 1) % grid.shape[1]
    upper = grid[r][:, c] * (1 - right) + grid[r][:, next_c] * right
    lower = grid[r + 1][:, c] * (1 - right) + grid[r + 1][:, next_c] * right
    return upper * (1 - down) + lower * down
