"""How scenes are drawn: which shapes, where, and what they do.

A picture is divided into cells and a cell holds one shape at a time, so shapes do not hide each
other; in a crowd a tip may reach a pixel or two into the next cell. The shapes of a scene share few
colours and few forms: whoever looks only for red, or only for circles, finds the wrong one too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from r2t.extract.demo.scene import (
    COLOURS,
    DURATION_SECONDS,
    LARGE_RADIUS,
    MIDDLE_RADIUS,
    PATTERNS,
    SHAPES,
    SIDE,
    SMALL_RADIUS,
    VERBS,
    Act,
    Actor,
    Background,
    Pose,
    Scene,
    Shape,
    Verb,
    Visit,
)

Cell = tuple[int, int]  # column from the left, row from the top
VisitPlan = list[tuple[Verb | None, int]]  # parts of a visit in order: verb or rest, seconds
STEP: dict[Verb, Cell] = {
    "moves to the left": (-1, 0),
    "moves to the right": (1, 0),
    "moves up": (0, -1),
    "moves down": (0, 1),
}


@dataclass(frozen=True)
class Staging:
    """How full a picture is; lengths in pixels."""

    cells_per_side: int
    num_colours: int
    num_shapes: int
    fewest_actors: int
    most_actors: int
    small_radius: float
    large_radius: float
    jitter: float
    # Of moving, resizing, spinning, resting; circles and rings move instead of spinning.
    plan_shares: tuple[float, float, float, float]
    share_staying: float = 0.0  # of actors meant to stay from the first second to the last

    def __post_init__(self) -> None:
        assert self.fewest_actors <= self.most_actors <= self.num_colours * self.num_shapes
        resizes = self.plan_shares[1] > 0
        assert not resizes or self.large_radius + self.small_radius == 2 * MIDDLE_RADIUS

    @property
    def cells(self) -> tuple[Cell, ...]:
        side = range(self.cells_per_side)
        return tuple((column, row) for row in side for column in side)

    @property
    def cell_side(self) -> float:
        return SIDE / self.cells_per_side


# One shape in a quadrant.
ROOMY = Staging(
    cells_per_side=2,
    num_colours=3,
    num_shapes=3,
    fewest_actors=4,
    most_actors=6,
    small_radius=SMALL_RADIUS,
    large_radius=LARGE_RADIUS,
    jitter=2.5,
    plan_shares=(0.5, 0.2, 0.2, 0.1),
)
# Small shapes only, about eight at a time, some of which never leave.
CROWDED = Staging(
    cells_per_side=4,
    num_colours=4,
    num_shapes=4,
    fewest_actors=13,
    most_actors=14,
    small_radius=6.3,
    large_radius=6.3,
    jitter=0.9,
    plan_shares=(0.6, 0.0, 0.2, 0.2),
    share_staying=0.45,
)


def sample_scene(rng: Generator, staging: Staging = ROOMY) -> Scene:
    """Draw a scene with as many actors as its staging asks for."""
    background = _sample_background(rng)
    while True:
        actors = _sample_actors(rng, staging)
        if len(actors) >= staging.fewest_actors:
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


def _sample_actors(rng: Generator, staging: Staging) -> tuple[Actor, ...]:
    colours = rng.choice(len(COLOURS), size=staging.num_colours, replace=False)
    shapes = rng.choice(len(SHAPES), size=staging.num_shapes, replace=False)
    looks = [(COLOURS[c], SHAPES[s]) for c in colours for s in shapes]
    rng.shuffle(looks)
    num_actors = int(rng.integers(staging.fewest_actors, staging.most_actors + 1))
    stage = _Stage(staging)
    actors: list[Actor] = []
    for colour, shape in looks:
        visits = _sample_visits(rng, shape, stage)
        if visits:
            actors.append(Actor(colour, shape, visits))
        if len(actors) == num_actors:
            break
    return tuple(actors)


class _Stage:
    """Which cells are taken, second by second."""

    def __init__(self, staging: Staging) -> None:
        self.staging = staging
        self._free = {cell: np.ones(DURATION_SECONDS, dtype=bool) for cell in staging.cells}

    def book(self, plan: VisitPlan, start: int, cell: Cell) -> bool:
        """Take the cells a plan needs, unless one of them is not free."""
        wanted: list[tuple[Cell, int, int]] = []
        time, (column, row) = start, cell
        for verb, seconds in plan:
            wanted.append(((column, row), time, time + seconds))
            if verb in STEP:  # needs both of its ends all the time
                column, row = column + STEP[verb][0], row + STEP[verb][1]
                wanted.append(((column, row), time, time + seconds))
            time += seconds
        # One second of air between two shapes in a cell: they never swap from frame to frame.
        if not all(
            where in self._free and self._free[where][max(a - 1, 0) : b + 1].all()
            for where, a, b in wanted
        ):
            return False
        for where, a, b in wanted:
            self._free[where][a:b] = False
        return True


def _sample_visits(rng: Generator, shape: Shape, stage: _Stage) -> tuple[Visit, ...]:
    """Draw the visits of one actor where cells are still free, and book them."""
    plans: list[VisitPlan]
    stays = stage.staging.share_staying > 0 and rng.random() < stage.staging.share_staying
    if stays:
        plans = [_stretch(_sample_plan(rng, shape, stage.staging), rng)]
    elif rng.random() < 0.15:  # comes and goes: two or three short visits
        plans = [[(None, int(rng.integers(3, 7)))] for _ in range(int(rng.integers(2, 4)))]
    else:
        plans = [_sample_plan(rng, shape, stage.staging)]
    visits = [visit for plan in plans if (visit := _place(rng, shape, plan, stage)) is not None]
    return tuple(sorted(visits, key=lambda visit: visit.start_seconds))


def _sample_plan(rng: Generator, shape: Shape, staging: Staging) -> VisitPlan:
    """Draw what a visit consists of."""

    def act() -> int:
        return 6 if rng.random() < 0.3 else 4  # even, so that the crossing is on a whole second

    # A long rest on one side only: the middle of a visit says little about when it acts.
    rests = [int(rng.integers(2, 4)), int(rng.integers(6, 10))]
    rng.shuffle(rests)
    before, after = rests
    kind = rng.choice(["move", "resize", "spin", "rest"], p=staging.plan_shares)
    if kind == "rest":
        return [(None, int(rng.integers(5, 11)))]
    if kind == "spin" and shape not in ("circle", "ring"):
        twice = rng.random() < 0.4
        again: VisitPlan = [(None, 3), ("spins", 4)] if twice else []
        return [(None, before), ("spins", act()), *again, (None, after)]
    verbs = VERBS[4:6] if kind == "resize" else VERBS[:4]
    return [(None, before), (verbs[rng.integers(len(verbs))], act()), (None, after)]


def _stretch(plan: VisitPlan, rng: Generator) -> VisitPlan:
    """Lengthen the first and last rest of a plan until it lasts as long as the video."""
    missing = DURATION_SECONDS - sum(seconds for _, seconds in plan)
    earlier = int(rng.integers(missing + 1))
    (_, first), *rest = plan
    plan = [(None, first + earlier), *rest]
    verb, last = plan[-1]
    return [*plan[:-1], (verb, last + missing - earlier)]


def _place(rng: Generator, shape: Shape, plan: VisitPlan, stage: _Stage) -> Visit | None:
    """Find a start and a cell for a plan and book them; None when no try fits."""
    length = sum(seconds for _, seconds in plan)
    cells = stage.staging.cells
    for _ in range(30):
        start = int(rng.integers(0, DURATION_SECONDS - length + 1))
        cell = cells[rng.integers(len(cells))]
        if stage.book(plan, start, cell):
            return _perform(rng, shape, plan, start, cell, stage.staging)
    return None


def _perform(
    rng: Generator, shape: Shape, plan: VisitPlan, start: int, cell: Cell, staging: Staging
) -> Visit:
    """Turn a plan into poses and acts; moves and growth cross the middle exactly halfway."""
    side, jitter = staging.cell_side, staging.jitter
    x, y = (side / 2 + side * axis + rng.uniform(-jitter, jitter) for axis in cell)
    verbs = {verb for verb, _ in plan}
    large = "shrinks" in verbs or ("grows" not in verbs and rng.random() < 0.5)
    radius = (staging.large_radius if large else staging.small_radius) + rng.uniform(-0.7, 0.7)
    turn = float(rng.choice([-1, 1])) * (360 if shape == "triangle" else 270)  # ends upright
    time, angle, (column, row) = float(start), 0.0, cell
    poses = [Pose(time, x, y, radius, angle)]
    acts: list[Act] = []
    for verb, seconds in plan:
        if verb in STEP:  # mirrored in the border that it crosses
            right, down = STEP[verb]
            if right:
                x = 2 * side * (column + (right > 0)) - x
            else:
                y = 2 * side * (row + (down > 0)) - y
            column, row = column + right, row + down
        elif verb in ("grows", "shrinks"):
            radius = 2 * MIDDLE_RADIUS - radius
        elif verb == "spins":
            angle += turn
        if verb:
            acts.append(Act(verb, int(time), int(time) + seconds))
        time += seconds
        poses.append(Pose(time, x, y, radius, angle))
    return Visit(tuple(poses), tuple(acts))
