"""The demo world: its stories are exact, repeatable, and readable by its own CLIP."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import mean

import av
import numpy as np
import pytest

from r2t.extract.demo.composed import COMPOSED_LIMITS, HELD_OUT, NUMBERS
from r2t.extract.demo.render import RGB, Painter
from r2t.extract.demo.scene import (
    DURATION_SECONDS,
    SIDE,
    STREAMS,
    VERBS,
    Act,
    Actor,
    Background,
    Pose,
    Scene,
    Visit,
    scene_generator,
)
from r2t.extract.demo.sentences import (
    Description,
    SceneQuery,
    clip_scores,
    every_description,
    prominence,
    runs,
)
from r2t.extract.demo.staging import CROWDED, ROOMY, Staging, sample_scene
from r2t.extract.demo.world import CLIP_SECONDS, Level, make_story, make_world, write_video
from r2t.store.errors import ConfigError

BACKGROUND = Background("plain", (60.0, 60.0, 60.0), (70.0, 70.0, 70.0), 16.0, 30.0, 1.0, seed=5)


@pytest.fixture
def crossing() -> Scene:
    """A red circle that comes at 4 s, crosses to the right from 8 to 12 s, and goes at 20 s."""
    poses = (
        Pose(4, 16, 16, 12, 0),
        Pose(8, 16, 16, 12, 0),
        Pose(12, 48, 16, 12, 0),
        Pose(20, 48, 16, 12, 0),
    )
    visit = Visit(poses, (Act("moves to the right", 8, 12),))
    return Scene(BACKGROUND, (Actor("red", "circle", (visit,)),))


@pytest.mark.parametrize(
    ("asked", "moments"),
    [
        (Description("red", "circle"), [[4, 20]]),
        (Description("red"), [[4, 20]]),
        (Description("blue", "circle"), []),
        (Description("red", "circle", place="left"), [[4, 10]]),
        (Description("red", "circle", place="right"), [[10, 20]]),
        (Description("red", "circle", place="bottom"), []),
        (Description("red", "circle", size="large"), [[4, 20]]),
        (Description("red", "circle", verb="moves to the right"), [[8, 12]]),
        (Description("red", "circle", verb="moves to the left"), []),
    ],
)
def test_moments_of_a_known_scene(
    crossing: Scene, asked: Description, moments: list[list[int]]
) -> None:
    assert runs(prominence(crossing, asked) > 0).tolist() == moments


def test_pixels_show_what_the_scene_says(crossing: Scene) -> None:
    paint = Painter(crossing)
    red = np.array(RGB["red"])
    for time in np.arange(0, DURATION_SECONDS, 0.25):
        is_red = np.abs(paint(float(time)).astype(int) - red).sum(axis=-1) < 60
        assert is_red.any() == (4 <= time < 20)
        if is_red.any():
            assert (np.nonzero(is_red)[1].mean() + 0.5 < SIDE / 2) == (time < 10)


@pytest.mark.parametrize("level", ["plain", "crowded"])
@pytest.mark.parametrize("index", range(3))
def test_every_presence_can_be_seen_in_the_pixels(index: int, level: Level) -> None:
    story = make_story("test", 1, index, level)
    paint = Painter(story.scene)
    for colour, rgb in RGB.items():
        present = prominence(story.scene, Description(colour)) > 0
        for second in range(DURATION_SECONDS):
            distance = np.abs(paint(second + 0.5).astype(int) - np.array(rgb)).sum(axis=-1)
            assert ((distance < 30).sum() >= 12) == present[second], (colour, second)


@pytest.mark.parametrize("staging", [ROOMY, CROWDED])
def test_shapes_never_overlap_and_stay_in_the_picture(staging: Staging) -> None:
    for index in range(8):
        scene = sample_scene(scene_generator("train", 3, index), staging)
        for second in np.arange(0, DURATION_SECONDS, 0.5):
            poses = [seen.pose for seen in scene.sightings(float(second))]
            for i, pose in enumerate(poses):
                assert pose.radius < min(pose.x, pose.y, SIDE - pose.x, SIDE - pose.y)
                for other in poses[:i]:
                    apart = max(abs(pose.x - other.x), abs(pose.y - other.y))
                    assert apart > pose.radius + other.radius


def test_the_same_seed_tells_the_same_story_and_any_other_another() -> None:
    told = make_story("test", 0, 4)
    assert make_story("test", 0, 4).rows() == told.rows()
    assert make_story("test", 0, 4).scene == told.scene
    assert make_story("val", 0, 4).scene != told.scene
    assert make_story("test", 1, 4).scene != told.scene
    assert make_story("test", 0, 5).scene != told.scene


def test_streams_share_no_scene() -> None:
    scenes = {sample_scene(scene_generator(stream, 0, i)) for stream in STREAMS for i in range(10)}
    assert len(scenes) == 10 * len(STREAMS)


def test_a_language_blind_answer_is_rarely_right() -> None:
    best: list[float] = []
    for index in range(12):
        queries = make_story("train", 0, index).queries
        answers = {(a, b) for query in queries for a, b in query.moments}
        best.append(max(mean(_hit(answer, query) for query in queries) for answer in answers))
    assert np.mean(best) < 0.55  # even for who knows every moment of the video


def _hit(answer: tuple[float, float], query: SceneQuery) -> bool:
    start, end = answer
    overlap = (np.minimum(end, query.moments[:, 1]) - np.maximum(start, query.moments[:, 0])).clip(
        0
    )
    union = (end - start) + (query.moments[:, 1] - query.moments[:, 0]) - overlap
    return bool((overlap / union >= 0.5).any())


def test_queries_are_distinct_answerable_and_of_every_kind() -> None:
    stories = [make_story("train", 0, index) for index in range(12)]
    for story in stories:
        sentences = [query.sentence for query in story.queries]
        assert len(sentences) == len(set(sentences)) >= 4
        for query in story.queries:
            lengths = query.moments[:, 1] - query.moments[:, 0]
            assert 1 <= len(lengths) <= 3
            assert lengths.min() >= 3
            assert lengths.max() <= 18
    queries = [query for story in stories for query in story.queries]
    assert {query.kind for query in queries} == {
        "action",
        "place",
        "presence",
        "size",
        "attribute",
    }
    assert {len(query.moments) for query in queries} >= {1, 2}


def test_saliency_counts_the_seconds_and_the_size() -> None:
    seconds = np.zeros(DURATION_SECONDS)
    seconds[5:8] = [1.0, 1.0, 0.5]
    scores = clip_scores(SceneQuery("", "presence", runs(seconds > 0), seconds), CLIP_SECONDS)
    assert scores[:5].tolist() == [0, 0, 2, 3, 0]


def test_files(tmp_path: Path) -> None:
    heard: list[tuple[float, float]] = []
    annotations = make_world(
        tmp_path,
        num_videos=2,
        seed=7,
        split="val",
        on_video=lambda done, total: heard.append((done, total)),
    )
    assert heard == [(1, 2), (2, 2)]
    assert annotations == tmp_path / "val.jsonl"
    rows = [json.loads(line) for line in annotations.read_text().splitlines()]
    assert rows == [row for index in range(2) for row in make_story("val", 7, index).rows()]
    for row in rows:
        scores = np.array(row["saliency_scores"])
        assert scores.shape == (len(row["relevant_clip_ids"]), 3)
        assert 0 <= scores.min() <= scores.max() <= 4
        assert max(row["relevant_clip_ids"]) < DURATION_SECONDS / CLIP_SECONDS
        assert {row["vid"], row["qid"].rsplit("-", 1)[0]} == {row["vid"]}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "val.jsonl",
        "world-val-7-0000.mp4",
        "world-val-7-0001.mp4",
    ]
    with av.open(tmp_path / "world-val-7-0001.mp4") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert float(container.streams.video[0].average_rate or 0) == 8
    assert len(frames) == 8 * DURATION_SECONDS
    painted = Painter(make_story("val", 7, 1).scene)(100 / 8)
    assert np.abs(frames[100].astype(int) - painted).mean() < 6


def test_files_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    digests = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        make_world(folder, num_videos=2, seed=1, split="train", processes=processes)
        digests.append(
            [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())]
        )
    assert digests[0] == digests[1]


def test_a_scene_is_filmed_to_the_same_bytes_each_time(tmp_path: Path) -> None:
    """This one differed every few times while libx264 weighed macroblocks by their future."""
    scene = make_story("train", 0, 223).scene
    files = [tmp_path / f"{number}.mp4" for number in range(8)]
    for file in files:
        write_video(file, scene)
    assert len({file.read_bytes() for file in files}) == 1


def test_no_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="num_videos = 0"):
        make_world(tmp_path, num_videos=0, seed=0, split="train")


def test_every_sentence_is_said_once() -> None:
    described = every_description()
    assert len(described) == len(set(described))
    assert {description.verb for description in described} == {None, *VERBS}
    assert replace(described[0]).sentence() == "a red circle is visible"
    assert described[0].sentence(variant=1) == "there is a red circle"


@cache
def descriptions() -> dict[str, Description]:
    """Return what every sentence about one shape says."""
    return {
        each.sentence(variant=variant): each for each in every_description() for variant in range(2)
    }


def holds(scene: Scene, sentence: str) -> np.ndarray:
    """Tell by brute force in which seconds a composed sentence is true."""
    said = descriptions()
    counts = {f"there {phrase}": number for number, phrase in NUMBERS.items()}
    if sentence in counts:
        return np.array([len(second) == counts[sentence] for second in scene.seconds])
    parts = [prominence(scene, said[part]) > 0 for part in sentence.split(" as ")]
    return np.logical_and.reduce(parts)


def test_a_crowd_is_one_of_small_shapes_some_of_which_never_leave() -> None:
    scenes = [sample_scene(scene_generator("train", 3, index), CROWDED) for index in range(8)]
    seen = [second for scene in scenes for second in scene.seconds]
    assert np.median([len(second) for second in seen]) >= 7
    assert {sighting.pose.size for second in seen for sighting in second} == {"small"}
    for scene in scenes:
        stays = [
            actor.visits[0].end_seconds - actor.visits[0].start_seconds == scene.duration_seconds
            for actor in scene.actors
        ]
        assert 2 <= sum(stays) < len(stays)
        acting = [act for actor in scene.actors for visit in actor.visits for act in visit.acts]
        assert sum(act.verb.startswith("moves") for act in acting) >= 3
    assert make_story("test", 0, 0, "crowded").video_id != make_story("test", 0, 0).video_id


def test_a_move_crosses_the_border_between_its_cells_halfway() -> None:
    for index in range(4):
        scene = sample_scene(scene_generator("train", 3, index), CROWDED)
        for visit in (visit for actor in scene.actors for visit in actor.visits):
            for act in visit.acts:
                if not act.verb.startswith("moves"):
                    continue
                middle = visit.pose_at((act.start_seconds + act.end_seconds) / 2)
                assert middle is not None
                along = middle.x if act.verb in VERBS[:2] else middle.y
                assert along % CROWDED.cell_side == pytest.approx(0)


@pytest.mark.parametrize("level", ["composed", "crowded"])
def test_composed_questions_are_exact_hold_out_pairs_and_are_hard(level: Level) -> None:
    kinds: set[str] = set()
    most, longest, novel = 0, 0, 0
    looks = {f"{colour} {shape}" for colour, shape in HELD_OUT}
    assert len(looks) == 6
    for split in ("train", "val", "test"):
        for index in range(30):
            story = make_story(split, 0, index, level)
            plain = sample_scene(scene_generator(split, 0, index))
            assert (story.scene == plain) == (level == "composed")
            assert len({query.sentence for query in story.queries}) == len(story.queries) <= 6
            for query in story.queries:
                np.testing.assert_array_equal(
                    query.moments, runs(holds(story.scene, query.sentence))
                )
                np.testing.assert_array_equal(query.moments, runs(query.prominence > 0))
                assert query.novel == any(look in query.sentence for look in looks)
                assert split == "test" or not query.novel
                kinds.add(query.kind)
                most = max(most, len(query.moments))
                longest = max(longest, len(query.sentence.split()))
                novel += query.novel
    everywhere = {"action", "joint", "place", "presence", "attribute"}
    if level == "composed":
        assert kinds == everywhere | {"size", "scene"}
    else:  # of one size, and seldom as few as sentences count
        assert kinds - {"scene"} == everywhere
    assert (3 if level == "composed" else 2) <= most <= COMPOSED_LIMITS.most_moments
    assert longest >= 14
    assert novel >= 20


def test_a_composed_world_is_marked_as_such(tmp_path: Path) -> None:
    path = make_world(tmp_path, num_videos=2, seed=0, split="test", level="composed")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    told = [
        query for index in range(2) for query in make_story("test", 0, index, "composed").queries
    ]
    assert [(row["query"], row["kind"], row["novel"]) for row in rows] == [
        (query.sentence, query.kind, query.novel) for query in told
    ]
