"""Sentences about a scene, and the moments and saliency they are true of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from r2t.extract.demo.scene import (
    COLOURS,
    LARGE_RADIUS,
    PLACES,
    SHAPES,
    SIZES,
    VERBS,
    Colour,
    Place,
    Scene,
    Shape,
    Sighting,
    Size,
    Verb,
)

SentenceKind = Literal["presence", "attribute", "size", "place", "action", "joint", "scene"]

# How often each kind is asked. Actions lead: a single frame does not show them.
PLAIN_KIND_SHARES: dict[SentenceKind, float] = {
    "action": 0.60,
    "place": 0.16,
    "presence": 0.10,
    "size": 0.10,
    "attribute": 0.04,
}
PLAIN_QUERIES_PER_VIDEO = 5


@dataclass(frozen=True)
class MomentLimits:
    """Which moments a sentence may have for it to be asked; each kind of world has its own.

    A moment lasts from `shortest_seconds` to `longest_seconds`, all of a sentence's together at
    most `total_seconds`.
    """

    most_moments: int
    shortest_seconds: int
    longest_seconds: int
    total_seconds: int

    def allow(self, moments: NDArray[np.float64]) -> bool:
        """Whether a sentence that is true of these moments, float64 [n, 2], may be asked."""
        lengths = moments[:, 1] - moments[:, 0]
        return (
            1 <= len(lengths) <= self.most_moments
            and float(lengths.min()) >= self.shortest_seconds
            and float(lengths.max()) <= self.longest_seconds
            and float(lengths.sum()) <= self.total_seconds
        )


PLAIN_LIMITS = MomentLimits(
    most_moments=3, shortest_seconds=3, longest_seconds=18, total_seconds=20
)


@dataclass(frozen=True)
class Description:
    """What a sentence says; None is left open."""

    colour: Colour | None = None
    shape: Shape | None = None
    size: Size | None = None
    place: Place | None = None
    verb: Verb | None = None

    def matches(self, seen: Sighting) -> bool:
        """Tell whether the sentence is true of a shape at this instant."""
        return (
            self.colour in (None, seen.actor.colour)
            and self.shape in (None, seen.actor.shape)
            and self.size in (None, seen.pose.size)
            and (self.place is None or self.place in seen.pose.places)
            and self.verb in (None, seen.verb)
        )

    @property
    def kind(self) -> SentenceKind:
        if self.verb:
            return "action"
        if self.place:
            return "place"
        if self.size:
            return "size"
        return "presence" if self.colour and self.shape else "attribute"

    def sentence(self, *, variant: int = 0) -> str:
        """Say it in English; `variant` chooses between equal ways to say it."""
        words = [self.size, self.colour, self.shape or "shape"]
        noun = " ".join(word for word in words if word)
        if self.verb:
            return f"the {noun} {self.verb}"
        if self.place:
            where = f"on the {self.place}" if self.place in PLACES[:2] else f"at the {self.place}"
            return [f"a {noun} is {where}", f"there is a {noun} {where}"][variant % 2]
        return [f"a {noun} is visible", f"there is a {noun}"][variant % 2]


@dataclass(frozen=True, eq=False)
class SceneQuery:
    """A sentence with its truth, second by second.

    `moments` is float64 [n, 2] in seconds. `prominence` float64 [seconds] is 0 outside the moments
    and inside them how large the shape is, at most 1. `novel`: it names what training never does.
    """

    sentence: str
    kind: SentenceKind
    moments: NDArray[np.float64]
    prominence: NDArray[np.float64]
    novel: bool = False


def prominence(scene: Scene, description: Description) -> NDArray[np.float64]:
    """Measure each second: 0 where the sentence is false, else radius / largest radius."""
    largest = [
        max((seen.pose.radius for seen in second if description.matches(seen)), default=0.0)
        for second in scene.seconds
    ]
    return np.minimum(np.array(largest) / LARGE_RADIUS, 1.0)


def runs(holds: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the [start, end) of every run of True: float64 [runs, 2]."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], holds, [False])).astype(np.int8)))
    return edges.reshape(-1, 2).astype(np.float64)


def candidates(scene: Scene) -> list[Description]:
    """List, once each and in a fixed order, the sentences that speak of something in the scene."""
    found: dict[Description, None] = {}
    for actor in scene.actors:
        look = Description(colour=actor.colour, shape=actor.shape)
        acts = [act for visit in actor.visits for act in visit.acts]
        found |= {replace(look, verb=act.verb): None for act in acts}
        found |= {replace(look, place=place): None for place in PLACES}
        found |= {replace(look, size=size): None for size in SIZES}
        found[look] = None
        found[Description(colour=actor.colour)] = None
        found[Description(shape=actor.shape)] = None
    return list(found)


def ask(scene: Scene, rng: Generator) -> list[SceneQuery]:
    """Draw the queries of a scene: as many kinds as it offers, each sentence once."""
    pools: dict[SentenceKind, list[SceneQuery]] = {kind: [] for kind in PLAIN_KIND_SHARES}
    for description in candidates(scene):
        seconds = prominence(scene, description)
        moments = runs(seconds > 0)
        if PLAIN_LIMITS.allow(moments) and adds_something(scene, description, seconds):
            sentence = description.sentence(variant=int(rng.integers(2)))
            pools[description.kind].append(SceneQuery(sentence, description.kind, moments, seconds))
    return draw_queries(pools, PLAIN_KIND_SHARES, PLAIN_QUERIES_PER_VIDEO, rng)


def draw_queries(
    pools: Mapping[SentenceKind, list[SceneQuery]],
    kind_shares: Mapping[SentenceKind, float],
    most: int,
    rng: Generator,
) -> list[SceneQuery]:
    """Take queries out of the pools of their kinds, each kind as often as its share says."""
    chosen: list[SceneQuery] = []
    while len(chosen) < most:
        kinds: list[SentenceKind] = [kind for kind in pools if pools[kind]]
        if not kinds:
            break
        shares = np.array([kind_shares[kind] for kind in kinds])
        pool = pools[kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]]
        chosen.append(pool.pop(int(rng.integers(len(pool)))))
    return chosen


def adds_something(scene: Scene, description: Description, seconds: NDArray[np.float64]) -> bool:
    """Tell whether a place or a size narrows down when; where it does not, nobody need read it."""
    if description.kind not in ("place", "size"):
        return True
    look = Description(colour=description.colour, shape=description.shape)
    return not np.array_equal(seconds > 0, prominence(scene, look) > 0)


def clip_scores(query: SceneQuery, clip_seconds: int) -> NDArray[np.int64]:
    """Return the saliency 0…4 of every clip: how much of it the moment fills, and how largely."""
    clips = query.prominence.reshape(-1, clip_seconds).mean(axis=1)
    return np.rint(4 * clips).astype(np.int64)


def describe(seen: Sighting, rng: Generator) -> Description:
    """Draw one true sentence about a shape in a frame, as a caption of that frame.

    Like a caption from the web it may tell what the shape does in the video, which the frame
    itself need not show.
    """
    kind = rng.choice(["presence", "size", "place", "action"], p=[0.2, 0.2, 0.4, 0.2])
    # A place is hard to learn while colour and shape explain most; half of its captions omit each.
    names_colour, names_shape = (rng.random(2) < (0.5 if kind == "place" else 0.75)).tolist()
    verbs: Sequence[Verb] = [act.verb for act in seen.visit.acts]
    description = Description(
        colour=seen.actor.colour if names_colour else None,
        shape=seen.actor.shape if names_shape else None,
        size=seen.pose.size if kind == "size" else None,
        place=seen.pose.places[rng.integers(2)] if kind == "place" else None,
        verb=verbs[rng.integers(len(verbs))] if kind == "action" and verbs else None,
    )
    if description == Description():  # "there is a shape" says nothing
        return Description(colour=seen.actor.colour, shape=seen.actor.shape)
    return description


def every_description() -> list[Description]:
    """List every sentence the world can say, true or not."""
    looks = [Description(colour=c, shape=s) for c in COLOURS for s in SHAPES]
    alone = [Description(colour=c) for c in COLOURS] + [Description(shape=s) for s in SHAPES]
    sizes = [replace(look, size=size) for look in looks for size in SIZES]
    places = [replace(look, place=place) for look in looks for place in PLACES]
    actions = [replace(look, verb=verb) for look in looks for verb in VERBS]
    return looks + alone + sizes + places + actions
