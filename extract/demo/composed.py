"""Harder questions about the same scenes: two things at once, counts, more and shorter moments.

Six pairs of colour and shape are held out: no sentence of the training and validation splits names
them, though they are seen in the videos, so test sentences about them ask for a composition of
known words. `r2t demo` asks the plain questions of `sentences`; these are for ablations.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from r2t.extract.demo.scene import COLOURS, SHAPES, Colour, Scene, Shape, Stream
from r2t.extract.demo.sentences import (
    Description,
    MomentLimits,
    SceneQuery,
    SentenceKind,
    adds_something,
    candidates,
    draw_queries,
    prominence,
    runs,
)

# Actions and pairs lead: a single frame does not show the former, a single shape not the latter.
COMPOSED_KIND_SHARES: dict[SentenceKind, float] = {
    "action": 0.38,
    "joint": 0.26,
    "place": 0.10,
    "size": 0.08,
    "scene": 0.08,
    "presence": 0.06,
    "attribute": 0.04,
}
COMPOSED_QUERIES_PER_VIDEO = 6
COMPOSED_LIMITS = MomentLimits(
    most_moments=5, shortest_seconds=2, longest_seconds=18, total_seconds=24
)
PAIRS_TRIED = 60
JOINED_BY = " as "
NUMBERS = {1: "is one shape", 2: "are two shapes", 3: "are three shapes", 4: "are four shapes"}

HELD_OUT: frozenset[tuple[Colour, Shape]] = frozenset(
    (colour, SHAPES[2 * place % len(SHAPES)]) for place, colour in enumerate(COLOURS)
)


def ask_composed(scene: Scene, rng: Generator, split: Stream) -> list[SceneQuery]:
    """Draw the queries of a scene: as many kinds as it offers, each sentence once."""
    pools: dict[SentenceKind, list[SceneQuery]] = {kind: [] for kind in COMPOSED_KIND_SHARES}
    known: list[tuple[Description, NDArray[np.float64]]] = []
    for description in candidates(scene):
        if split != "test" and is_held_out(description):
            continue
        seconds = prominence(scene, description)
        if not seconds.any():
            continue
        known.append((description, seconds))
        if adds_something(scene, description, seconds):
            sentence = description.sentence(variant=int(rng.integers(2)))
            novel = is_held_out(description)
            _offer(pools, SceneQuery(sentence, description.kind, runs(seconds > 0), seconds, novel))
    for _ in range(PAIRS_TRIED if len(known) > 1 else 0):
        first, second = (known[place] for place in rng.choice(len(known), 2, replace=False))
        query = _joint(first, second)
        if query is not None:
            _offer(pools, query)
    for number, phrase in NUMBERS.items():
        shown = np.array([len(second) == number for second in scene.seconds])
        _offer(pools, SceneQuery(f"there {phrase}", "scene", runs(shown), shown.astype(np.float64)))
    return draw_queries(pools, COMPOSED_KIND_SHARES, COMPOSED_QUERIES_PER_VIDEO, rng)


def is_held_out(description: Description) -> bool:
    """Tell whether a sentence names a pair of colour and shape that training never does."""
    return (description.colour, description.shape) in HELD_OUT


def _joint(
    first: tuple[Description, NDArray[np.float64]], second: tuple[Description, NDArray[np.float64]]
) -> SceneQuery | None:
    """Return what two shapes do at once, unless one of the two tells it all."""
    (one, one_seconds), (other, other_seconds) = first, second
    looks = [replace(each, size=None, place=None, verb=None) for each in (one, other)]
    if looks[0] == looks[1] or not all(each.colour and each.shape for each in looks):
        return None
    both = np.minimum(one_seconds, other_seconds)
    if any(np.array_equal(both > 0, each > 0) for each in (one_seconds, other_seconds)):
        return None
    sentence = f"{one.sentence(variant=1)}{JOINED_BY}{other.sentence(variant=1)}"
    novel = is_held_out(one) or is_held_out(other)
    return SceneQuery(sentence, "joint", runs(both > 0), both, novel)


def _offer(pools: dict[SentenceKind, list[SceneQuery]], query: SceneQuery) -> None:
    """Add a query if its moments can be asked for and its sentence is new."""
    pool = pools[query.kind]
    known = {other.sentence for other in pool}
    if COMPOSED_LIMITS.allow(query.moments) and query.sentence not in known:
        pool.append(query)
