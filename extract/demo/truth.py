"""Which videos of the world a sentence is true of: more than the one it was written for.

It follows from the stories, so it is exact: a sentence holds in a video if it is true in the middle
of any second, which is what a frame a second shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r2t.extract.demo.composed import JOINED_BY, NUMBERS
from r2t.extract.demo.scene import Scene
from r2t.extract.demo.sentences import Description, candidates, every_description, prominence
from r2t.extract.demo.world import Level, Story, make_story
from r2t.store.annotations import Split
from r2t.store.errors import AnnotationError
from r2t.store.files import write_whole
from r2t.store.json_lines import to_json_lines


class Truth:
    """What is true of a scene, second by second."""

    def __init__(self, scene: Scene) -> None:
        self._nothing = np.zeros(scene.duration_seconds, np.bool_)
        # Only of what a scene shows can a sentence be true.
        self._seconds = {each: prominence(scene, each) > 0 for each in candidates(scene)}
        self._num_shapes = np.array([len(second) for second in scene.seconds])

    def seconds(self, sentence: str) -> NDArray[np.bool_]:
        """Return for each second whether a sentence is true in its middle.

        Raises:
            AnnotationError: if nobody says such a sentence in this world.
        """
        number = _numbers().get(sentence)
        if number is not None:
            return self._num_shapes == number
        parts = [_described(part, sentence) for part in sentence.split(JOINED_BY)]
        every = [self._seconds.get(part, self._nothing) for part in parts]
        return np.logical_and.reduce(every)


def fitting_videos(stories: Sequence[Story]) -> dict[str, list[str]]:
    """Return the videos that each query's sentence is true of, by the query's id."""
    truths = {story.video_id: Truth(story.scene) for story in stories}
    found: dict[str, list[str]] = {}  # by sentence
    for story in stories:
        for query in story.queries:
            if query.sentence not in found:
                found[query.sentence] = [
                    video_id
                    for video_id, truth in truths.items()
                    if truth.seconds(query.sentence).any()
                ]
    return {
        str(row["qid"]): found[query.sentence]
        for story in stories
        for row, query in zip(story.rows(), story.queries, strict=True)
    }


def world_relevance(
    *, num_videos: int, seed: int, split: Split, level: Level = "plain"
) -> dict[str, list[str]]:
    """Return the videos that each query's sentence is true of, in what `make_world` makes."""
    return fitting_videos([make_story(split, seed, index, level) for index in range(num_videos)])


def write_relevance(path: Path, relevant: Mapping[str, Iterable[str]]) -> None:
    """Write what `--relevant` of `r2t eval` and `r2t calibrate` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"query_id": query, "relevant": [*videos]} for query, videos in relevant.items()]
    write_whole(path, to_json_lines(rows))


@cache
def _sayable() -> dict[str, Description]:
    return {each.sentence(variant=way): each for each in every_description() for way in (0, 1)}


@cache
def _numbers() -> dict[str, int]:
    return {f"there {phrase}": number for number, phrase in NUMBERS.items()}


def _described(part: str, sentence: str) -> Description:
    try:
        return _sayable()[part]
    except KeyError:
        raise AnnotationError(
            f"{sentence!r} is no sentence of the demo world: what it says of a video is not known"
        ) from None
