"""Which videos a sentence is true of, against a second look at each scene, word by word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from r2t.extract.demo.scene import COLOURS, PLACES, SHAPES, SIZES, VERBS, Scene, Sighting
from r2t.extract.demo.truth import Truth, fitting_videos, world_relevance, write_relevance
from r2t.extract.demo.world import Level, Story, make_story
from r2t.store.errors import AnnotationError

LEVELS = get_args(Level)
NUMBER_WORDS = {"one": 1, "two": 2, "three": 3, "four": 4}


def stories(level: Level, count: int) -> list[Story]:
    return [make_story("test", 0, index, level) for index in range(count)]


def reads_true(part: str, seen: Sighting) -> bool:
    """Read a sentence about one shape by the words in it, without knowing how it was written."""
    verbs = [verb for verb in VERBS if part.endswith(verb)]
    words = part if not verbs else part.removesuffix(verbs[0])
    said = words.split()
    return (
        all(seen.actor.colour == word for word in said if word in COLOURS)
        and all(seen.actor.shape == word for word in said if word in SHAPES)
        and all(seen.pose.size == word for word in said if word in SIZES)
        and all(word in seen.pose.places for word in said if word in PLACES)
        and all(seen.verb == verb for verb in verbs)
    )


def reads_true_of(sentence: str, scene: Scene) -> bool:
    words = sentence.split()
    for second in range(scene.duration_seconds):
        shown = list(scene.sightings(second + 0.5))
        if words[2] in NUMBER_WORDS:
            if len(shown) == NUMBER_WORDS[words[2]]:
                return True
        elif all(any(reads_true(part, seen) for seen in shown) for part in sentence.split(" as ")):
            return True
    return False


@pytest.mark.parametrize("level", LEVELS)
def test_a_sentence_fits_the_videos_in_which_its_words_come_true(level: Level) -> None:
    told = stories(level, 3 if level == "crowded" else 5)
    found = fitting_videos(told)
    scenes = {story.video_id: story.scene for story in told}
    fitting = 0
    for story in told:
        for row, query in zip(story.rows(), story.queries, strict=True):
            expected = [v for v, scene in scenes.items() if reads_true_of(query.sentence, scene)]
            assert found[str(row["qid"])] == expected, query.sentence
            fitting += len(expected)
    assert fitting > len(found)  # some fit more than their own


@pytest.mark.parametrize("level", LEVELS)
def test_every_annotated_pair_fits_at_exactly_its_seconds(level: Level) -> None:
    for story in stories(level, 2 if level == "crowded" else 6):
        truth = Truth(story.scene)
        for query in story.queries:
            np.testing.assert_array_equal(truth.seconds(query.sentence), query.prominence > 0)


def test_what_nobody_says_here_is_refused() -> None:
    truth = Truth(stories("plain", 1)[0].scene)
    for sentence in ("a dog barks", "there is a red ring as a dog barks", ""):
        with pytest.raises(AnnotationError, match="no sentence of the demo world"):
            truth.seconds(sentence)


def test_the_file_names_every_query_of_the_world(tmp_path: Path) -> None:
    relevant = world_relevance(num_videos=3, seed=0, split="val")
    write_relevance(tmp_path / "relevant" / "val.jsonl", relevant)
    lines = (tmp_path / "relevant" / "val.jsonl").read_text().splitlines()
    assert {row["query_id"]: row["relevant"] for row in map(json.loads, lines)} == relevant
    assert all(query.rpartition("-")[0] in videos for query, videos in relevant.items())
