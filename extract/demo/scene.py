"""Scenes: coloured shapes that come, move, grow, spin and go over a quiet background.

A scene says everything about a video before a pixel exists, so its moments are known exactly.
Everything changes on whole seconds: within one second a shape is either there or not, on the left
or on the right, moving or at rest.

How scenes are drawn is in `staging`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.random import Generator

Colour = Literal["red", "yellow", "green", "blue", "purple", "white"]
Shape = Literal["circle", "square", "triangle", "cross", "ring"]
Size = Literal["small", "large"]
Place = Literal["left", "right", "top", "bottom"]
Verb = Literal[
    "moves to the left", "moves to the right", "moves up", "moves down", "grows", "shrinks", "spins"
]
Pattern = Literal["plain", "gradient", "stripes", "waves", "clouds"]
Stream = Literal["train", "val", "test", "clip-training", "clip-probe"]

COLOURS: tuple[Colour, ...] = get_args(Colour)
SHAPES: tuple[Shape, ...] = get_args(Shape)
SIZES: tuple[Size, ...] = get_args(Size)
PLACES: tuple[Place, ...] = get_args(Place)
VERBS: tuple[Verb, ...] = get_args(Verb)
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
STREAMS: tuple[Stream, ...] = get_args(Stream)

SIDE = 64  # pixels; x grows to the right, y downwards
CENTRE = SIDE / 2
SMALL_RADIUS, LARGE_RADIUS = 7.0, 12.0
MIDDLE_RADIUS = (SMALL_RADIUS + LARGE_RADIUS) / 2
DURATION_SECONDS = 36


@dataclass(frozen=True)
class Pose:
    """Where a shape is and how it looks at one instant; lengths in pixels, angle in degrees."""

    time_seconds: float
    x: float
    y: float
    radius: float
    angle: float

    @property
    def size(self) -> Size:
        return "small" if self.radius < MIDDLE_RADIUS else "large"

    @property
    def places(self) -> tuple[Place, Place]:
        return ("left" if self.x < CENTRE else "right", "top" if self.y < CENTRE else "bottom")


@dataclass(frozen=True)
class Act:
    """What a shape does in the seconds [start, end)."""

    verb: Verb
    start_seconds: int
    end_seconds: int


@dataclass(frozen=True)
class Visit:
    """One stay of a shape in the picture: poses in time order, linear in between."""

    poses: tuple[Pose, ...]
    acts: tuple[Act, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.poses) >= 2
        assert all(a.time_seconds < b.time_seconds for a, b in pairwise(self.poses))

    @property
    def start_seconds(self) -> float:
        return self.poses[0].time_seconds

    @property
    def end_seconds(self) -> float:
        return self.poses[-1].time_seconds

    def pose_at(self, time_seconds: float) -> Pose | None:
        """Return the pose at a time, None outside [start, end)."""
        for a, b in pairwise(self.poses):
            if a.time_seconds <= time_seconds < b.time_seconds:
                share = (time_seconds - a.time_seconds) / (b.time_seconds - a.time_seconds)
                return Pose(
                    time_seconds,
                    a.x + share * (b.x - a.x),
                    a.y + share * (b.y - a.y),
                    a.radius + share * (b.radius - a.radius),
                    a.angle + share * (b.angle - a.angle),
                )
        return None

    def verb_at(self, time_seconds: float) -> Verb | None:
        for act in self.acts:
            if act.start_seconds <= time_seconds < act.end_seconds:
                return act.verb
        return None


@dataclass(frozen=True)
class Actor:
    """A shape of one colour and all its visits."""

    colour: Colour
    shape: Shape
    visits: tuple[Visit, ...]


@dataclass(frozen=True)
class Background:
    """A dull two-tone pattern that drifts slowly; `dark` and `light` are RGB in 0…255."""

    pattern: Pattern
    dark: tuple[float, float, float]
    light: tuple[float, float, float]
    wavelength: float
    direction_degrees: float
    drift_pixels_per_second: float
    seed: int


@dataclass(frozen=True)
class Sighting:
    """An actor seen at one instant: its pose, what it does now, and in this visit as a whole."""

    actor: Actor
    pose: Pose
    verb: Verb | None
    visit: Visit


@dataclass(frozen=True)
class Scene:
    """All that happens in one video."""

    background: Background
    actors: tuple[Actor, ...]
    duration_seconds: int = DURATION_SECONDS

    def sightings(self, time_seconds: float) -> Iterator[Sighting]:
        """Yield every actor in the picture at a time."""
        for actor in self.actors:
            for visit in actor.visits:
                if pose := visit.pose_at(time_seconds):
                    yield Sighting(actor, pose, visit.verb_at(time_seconds), visit)

    @cached_property
    def seconds(self) -> tuple[tuple[Sighting, ...], ...]:
        """What is in the picture in the middle of each second."""
        return tuple(tuple(self.sightings(i + 0.5)) for i in range(self.duration_seconds))


def scene_generator(stream: Stream, seed: int, index: int) -> Generator:
    """Return the random generator of one scene; no two (stream, seed, index) share a scene.

    The demo's splits and the frames its CLIP learned from are different streams: a test video
    is new to both models whatever the seeds.
    """
    return np.random.default_rng([STREAMS.index(stream), seed, index])
