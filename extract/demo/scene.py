"""Scenes: coloured shapes that come, move, grow, spin and go over a quiet background.

A scene says everything about a video before a pixel exists, so its moments are known exactly.
Everything changes on whole seconds: within one second a shape is either there or not, on the left
or on the right, moving or at rest.

A picture is divided into four quadrants and a quadrant holds one shape at a time, so shapes never
hide each other. The shapes of a scene share few colours and few forms: whoever looks only for
red, or only for circles, finds the wrong one too.
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

Quadrant = tuple[int, int]  # column (0 left, 1 right), row (0 top, 1 bottom)
QUADRANTS: tuple[Quadrant, ...] = ((0, 0), (1, 0), (0, 1), (1, 1))
STEP: dict[Verb, Quadrant] = {
    "moves to the left": (-1, 0),
    "moves to the right": (1, 0),
    "moves up": (0, -1),
    "moves down": (0, 1),
}


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


def sample_scene(rng: Generator) -> Scene:
    """Draw a scene of four to six actors."""
    background = _sample_background(rng)
    while True:
        actors = _sample_actors(rng)
        if len(actors) >= 4:
            return Scene(background, actors)


def _sample_background(rng: Generator) -> Background:
    level = rng.uniform(40, 130)
    tint = rng.uniform(-14, 14, size=(2, 3))
    contrast = rng.uniform(10, 32)
    dark = tuple(float(c) for c in level - contrast / 2 + tint[0])
    light = tuple(float(c) for c in level + contrast / 2 + tint[1])
    return Background(
        pattern=PATTERNS[rng.integers(len(PATTERNS))],
        dark=(dark[0], dark[1], dark[2]),
        light=(light[0], light[1], light[2]),
        wavelength=float(rng.uniform(10, 28)),
        direction_degrees=float(rng.uniform(0, 180)),
        drift_pixels_per_second=float(rng.uniform(-3, 3)),
        seed=int(rng.integers(2**31)),
    )


def _sample_actors(rng: Generator) -> tuple[Actor, ...]:
    colours = rng.choice(len(COLOURS), size=3, replace=False)
    shapes = rng.choice(len(SHAPES), size=3, replace=False)
    looks = [(COLOURS[c], SHAPES[s]) for c in colours for s in shapes]
    rng.shuffle(looks)
    num_actors = int(rng.integers(4, 7))
    free = {quadrant: np.ones(DURATION_SECONDS, dtype=bool) for quadrant in QUADRANTS}
    actors: list[Actor] = []
    for colour, shape in looks:
        visits = _sample_visits(rng, shape, free)
        if visits:
            actors.append(Actor(colour, shape, visits))
        if len(actors) == num_actors:
            break
    return tuple(actors)


def _sample_visits(
    rng: Generator, shape: Shape, free: dict[Quadrant, np.ndarray]
) -> tuple[Visit, ...]:
    """Draw the visits of one actor where the quadrants are still free, and book them."""
    wishes: list[list[tuple[Verb | None, int]]]
    if rng.random() < 0.15:  # comes and goes: two or three short visits
        wishes = [[(None, int(rng.integers(3, 7)))] for _ in range(int(rng.integers(2, 4)))]
    else:
        wishes = [_sample_plan(rng, shape)]
    visits = [visit for wish in wishes if (visit := _place(rng, shape, wish, free)) is not None]
    return tuple(sorted(visits, key=lambda visit: visit.start_seconds))


def _sample_plan(rng: Generator, shape: Shape) -> list[tuple[Verb | None, int]]:
    """Draw what a visit consists of: (verb or None for rest, seconds) in order."""

    def act() -> int:
        return 6 if rng.random() < 0.3 else 4  # even, so that the crossing is on a whole second

    # A long rest on one side only: the middle of a visit says little about when it acts.
    rests = [int(rng.integers(2, 4)), int(rng.integers(6, 10))]
    rng.shuffle(rests)
    before, after = rests
    kind = rng.choice(["move", "resize", "spin", "rest"], p=[0.5, 0.2, 0.2, 0.1])
    if kind == "rest":
        return [(None, int(rng.integers(5, 11)))]
    if kind == "spin" and shape not in ("circle", "ring"):
        twice = rng.random() < 0.4
        again: list[tuple[Verb | None, int]] = [(None, 3), ("spins", 4)] if twice else []
        return [(None, before), ("spins", act()), *again, (None, after)]
    verbs = VERBS[4:6] if kind == "resize" else VERBS[:4]
    return [(None, before), (verbs[rng.integers(len(verbs))], act()), (None, after)]


def _place(
    rng: Generator,
    shape: Shape,
    plan: list[tuple[Verb | None, int]],
    free: dict[Quadrant, np.ndarray],
) -> Visit | None:
    """Find a start and a quadrant for a plan and book them; None when no try fits."""
    length = sum(seconds for _, seconds in plan)
    for _ in range(30):
        start = int(rng.integers(0, DURATION_SECONDS - length + 1))
        quadrant = QUADRANTS[rng.integers(len(QUADRANTS))]
        booked = _bookings(plan, start, quadrant)
        # One second of air between two shapes in a quadrant: they never swap from frame to frame.
        if all(
            where in free and free[where][max(a - 1, 0) : b + 1].all() for where, a, b in booked
        ):
            for where, a, b in booked:
                free[where][a:b] = False
            return _perform(rng, shape, plan, start, quadrant)
    return None


def _is_free(free: dict[Quadrant, np.ndarray], quadrant: Quadrant, start: int, end: int) -> bool:
    # A second of air around a visit: two shapes never swap from one frame to the next.
    return quadrant in free and bool(free[quadrant][max(start - 1, 0) : end + 1].all())


def _bookings(
    plan: list[tuple[Verb | None, int]], start: int, quadrant: Quadrant
) -> list[tuple[Quadrant, int, int]]:
    """List the quadrants a plan needs, as (quadrant, from, to); a move needs both of its ends."""
    booked: list[tuple[Quadrant, int, int]] = []
    time, (column, row) = start, quadrant
    for verb, seconds in plan:
        booked.append(((column, row), time, time + seconds))
        if verb in STEP:
            column, row = column + STEP[verb][0], row + STEP[verb][1]
            booked.append(((column, row), time, time + seconds))
        time += seconds
    return booked


def _perform(
    rng: Generator,
    shape: Shape,
    plan: list[tuple[Verb | None, int]],
    start: int,
    quadrant: Quadrant,
) -> Visit:
    """Turn a plan into poses and acts; moves and growth cross the middle exactly halfway."""
    x, y = (16.0 + 32.0 * axis + rng.uniform(-2.5, 2.5) for axis in quadrant)
    verbs = {verb for verb, _ in plan}
    large = "shrinks" in verbs or ("grows" not in verbs and rng.random() < 0.5)
    radius = float((LARGE_RADIUS if large else SMALL_RADIUS) + rng.uniform(-0.7, 0.7))
    turn = float(rng.choice([-1, 1])) * (360 if shape == "triangle" else 270)  # ends upright
    time, angle = float(start), 0.0
    poses = [Pose(time, x, y, radius, angle)]
    acts: list[Act] = []
    for verb, seconds in plan:
        if verb in STEP:
            x, y = (SIDE - x, y) if STEP[verb][0] else (x, SIDE - y)
        elif verb in ("grows", "shrinks"):
            radius = 2 * MIDDLE_RADIUS - radius
        elif verb == "spins":
            angle += turn
        if verb:
            acts.append(Act(verb, int(time), int(time) + seconds))
        time += seconds
        poses.append(Pose(time, x, y, radius, angle))
    return Visit(tuple(poses), tuple(acts))
