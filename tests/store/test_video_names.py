"""One rule by which the names that people write find the videos that there are."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from r2t.store.annotations import Annotation
from r2t.store.video_names import VIDEO_SUFFIXES, VideoNames, match_videos, same_video

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("suffix", sorted(VIDEO_SUFFIXES))
def test_every_suffix_of_a_video_is_left_out(suffix: str) -> None:
    assert VideoNames(["dog", "cow"]).find(f"dog{suffix.upper()}") == "dog"


def test_an_id_is_found_as_it_is_stored() -> None:
    names = VideoNames(["dog.mp4", "a_0.0_150.0", NFD])
    assert names.find("dog.mp4") == "dog.mp4"
    assert names.find("dog") == "dog.mp4"
    assert names.find("a_0.0_150.0") == "a_0.0_150.0"
    assert names.find(NFC) == NFD
    assert names.find(f"{NFC}.mkv") == NFD
    assert names.find("Dog") is None


def test_the_very_id_comes_first_and_twins_are_never_guessed() -> None:
    names = VideoNames(["dog", "dog.mp4", NFC, NFD])
    assert [names.find(name) for name in ("dog", "dog.mp4", NFC, NFD)] == [
        "dog", "dog.mp4", NFC, NFD
    ]  # fmt: skip
    assert names.find("dog.avi") is None
    assert names.hint("dog.avi") == "it can mean 'dog' or 'dog.mp4'"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Dog.MP4", "there is 'dog', in other letters"),
        ("clips/dog.mp4", "there is 'dog', without a path"),
        ("dogg", "there is 'dog'"),
        ("elephant", ""),
    ],
)
def test_near_misses_are_named(name: str, hint: str) -> None:
    assert VideoNames(["cow", "dog"]).hint(name) == hint


def test_annotations_come_under_the_ids_that_they_mean() -> None:
    rows = [
        Annotation(str(number), name, "a", np.zeros((0, 2)))
        for number, name in enumerate(["dog.ts", "cow", "elk"])
    ]
    found = match_videos(rows, VideoNames(["dog", "cow"]))
    assert [each.video_id for each in found] == ["dog", "cow", "elk"]
    assert found[1] is rows[1]


def test_two_names_of_one_video() -> None:
    assert same_video(f"{NFC}.mp4", NFD)
    assert not same_video("dog", "Dog")
