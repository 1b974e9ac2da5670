"""One rule by which the names that people write find the videos that there are."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from r2t.store.annotations import Annotation
from r2t.store.errors import AnnotationWarning
from r2t.store.video_names import (
    VIDEO_SUFFIXES,
    VideoNames,
    match_videos,
    name_of_features,
    same_video,
)

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
        ("Dog.MP4", "there is 'dog', spelled differently"),
        ("clips/dog.mp4", "there is 'dog', without a path"),
        ("dogg", "there is 'dog'"),
        ("elephant", ""),
    ],
)
def test_near_misses_are_named(name: str, hint: str) -> None:
    assert VideoNames(["cow", "dog"]).hint(name) == hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("world-train-0-0031", ""),  # another of the series
        ("world-val-0-0030", ""),
        ("wrld-train-0-0030", "there is 'world-train-0-0030'"),
        ("world-train-0-030", "there is 'world-train-0-0030'"),
    ],
)
def test_another_of_a_series_is_no_near_miss(name: str, hint: str) -> None:
    assert VideoNames(["world-train-0-0030"]).hint(name) == hint


def test_annotations_come_under_the_ids_that_they_mean() -> None:
    rows = [
        Annotation(str(number), name, "a", np.zeros((0, 2)))
        for number, name in enumerate(["dog.ts", "cow", "elk"])
    ]
    found = match_videos(rows, VideoNames(["dog", "cow"]))
    assert [each.video_id for each in found] == ["dog", "cow", "elk"]
    assert found[1] is rows[1]


def test_annotations_of_tacos_find_videos_named_with_their_camera() -> None:
    with_camera = VideoNames(["s30-d52-cam-002", "s13-d28-cam-002", "dog-cam-002"])
    assert with_camera.find("s30-d52") == "s30-d52-cam-002"
    assert with_camera.find("s30-d52.avi") == "s30-d52-cam-002"
    assert with_camera.find("dog") is None  # no name of TACoS
    assert VideoNames(["s30-d52"]).find("s30-d52-cam-002.avi") == "s30-d52"
    both = VideoNames(["s30-d52", "s30-d52-cam-002"])
    assert [both.find(name) for name in both] == list(both)
    assert same_video("s30-d52", "s30-d52-cam-002")
    assert [name_of_features(name) for name in ("s30-d52", "s30-d52-cam-002", "s3-d5")] == [
        "s30-d52-cam-002", "s30-d52-cam-002", "s3-d5"
    ]  # fmt: skip
    rows = [Annotation(name, name, "a", np.zeros((0, 2))) for name in ("s30-d52", "s13-d28", "s1")]
    with pytest.warns(AnnotationWarning, match=r"'s13-d28' is taken for 's13-d28-cam-002' \(2 v"):
        found = match_videos(rows, with_camera)
    assert [each.video_id for each in found] == ["s30-d52-cam-002", "s13-d28-cam-002", "s1"]
    assert [each.query_id for each in found] == ["s30-d52", "s13-d28", "s1"]


def test_two_names_of_one_video() -> None:
    assert same_video(f"{NFC}.mp4", NFD)
    assert not same_video("dog", "Dog")
