"""Long videos: windows, what crosses their edges, and what memory holds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from tiny_config import tiny_config
from torch import Tensor
from toy_store import make_store

from r2t.store.errors import ConfigError
from r2t.store.features import FrameSource, QueryFeatures, VideoFeatures
from r2t.train.choices import WindowChoice
from r2t.train.grounding.evaluation import evaluate_groundings
from r2t.train.grounding.ground_store import StoredQueries
from r2t.train.grounding.grounder import Grounder
from r2t.train.grounding.window_merge import merge_moments
from r2t.train.grounding.windows import (
    WindowAnswer,
    WindowedVideo,
    WindowPlan,
    asking_plan,
    scoring_plan,
)
from r2t.train.model.decode import DecodeConfig, Grounding
from r2t.train.model.model import R2Model
from r2t.train.run.config import TrainConfig
from r2t.train.run.own_data import OWN_DATA, OWN_PRESET
from r2t.train.run.presets import PRESETS, find_preset
from r2t.train.run.trained_on import TrainedOn
from r2t.train.training.fit import split_annotations, train_model

EXTENTS = np.array([[0.0, 100.0], [50.0, 150.0], [100.0, 200.0]])


@given(st.integers(2, 600), st.integers(1, 5000))
def test_windows_cover_a_video_and_neighbours_share_half(length: int, num_frames: int) -> None:
    windows = WindowPlan(length).windows(num_frames)
    assert windows[0].start == 0
    assert windows[-1].stop == num_frames
    if num_frames <= 2 * length:
        assert len(windows) == 1
        return
    assert {window.stop - window.start for window in windows} == {length}
    for before, after in itertools.pairwise(windows):
        assert before.start < after.start
        assert before.stop - after.start >= length // 2


def merged(*windows: Sequence[Sequence[float]]) -> list[list[float]]:
    moments = [np.array(rows, np.float64).reshape(-1, 3) for rows in windows]
    return merge_moments(moments, EXTENTS, edge_seconds=1.0).tolist()


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        # seen whole by two windows, not quite alike
        (([[60, 90, 0.8]], [[61, 90, 0.9]], []), [[61, 90, 0.9]]),
        # across the edge of the first, whole in the second: the piece gives its score
        (([[80, 100, 0.9]], [[80, 130, 0.7]], []), [[80, 130, 0.9]]),
        # across the start of the second, whole in the first
        (([[30, 70, 0.7]], [[50, 70, 0.8]], []), [[30, 70, 0.8]]),
        # longer than any window: pieces from both sides
        (([[40, 100, 0.8]], [[50, 110, 0.6]], []), [[40, 110, pytest.approx(0.7)]]),
        # across all three
        (([[20, 100, 0.9]], [[50, 150, 0.7]], [[100, 180, 0.6]]), [[20, 180, pytest.approx(0.7)]]),
        # at the edge, and nobody has seen more of it
        (([[70, 100, 0.9]], [], []), [[70, 100, 0.9]]),
        # a piece and an unlike moment that reaches farther
        (([[90, 100, 0.9]], [[60, 140, 0.5]], []), [[90, 100, 0.9], [60, 140, 0.5]]),
        # the video's own ends cut nothing
        (([[0, 40, 0.9]], [], [[170, 200, 0.8]]), [[0, 40, 0.9], [170, 200, 0.8]]),
        # two moments of one window are for the suppression of `decode`
        (([[10, 20, 0.9], [10, 20, 0.8]], [], []), [[10, 20, 0.9], [10, 20, 0.8]]),
        (([], [], []), []),
    ],
)
def test_a_moment_across_an_edge_is_found_once(
    windows: tuple[Any, ...], expected: list[list[float]]
) -> None:
    assert merged(*windows) == expected


def test_stitched_saliency_trusts_the_middle_of_a_window() -> None:
    none = np.zeros((0, 3))
    curves = [np.full(4, value, np.float32) for value in (0.0, 1.0)]
    answers = [WindowAnswer(Grounding(none, curve, 1.0, 4.0, 0.5), curve / 2) for curve in curves]
    windowed = WindowedVideo(6, 6.0, 1.0, (slice(0, 4), slice(2, 6)))
    found = windowed.stitch(answers, DecodeConfig())
    np.testing.assert_allclose(found.saliency, [0, 0, 1 / 3, 2 / 3, 1, 1])
    assert found.duration_seconds == 6
    assert found.video_score == pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3)  # of the whole video


class Spotter(Grounder):
    """Finds the frames whose tokens are bright, as far as the window shows them."""

    asked: list[int]

    def _prepare_features(self, video: VideoFeatures) -> Any:
        return video

    def _refine(self, window: Any, queries: Sequence[QueryFeatures]) -> Any:
        return window, len(queries)

    def _answer(
        self, window: Any, priors: Tensor | None, decoding: DecodeConfig
    ) -> list[WindowAnswer]:
        window, num_queries = window
        Spotter.asked.append(window.num_frames)
        bright = np.flatnonzero(window.tokens[0, :, 0, 0] > 0)
        moments = np.zeros((0, 3))
        if len(bright):
            ends = [bright[0] / window.frame_rate_fps, (bright[-1] + 1) / window.frame_rate_fps]
            moments = np.array([[*ends, 0.9]])
        saliency = (window.tokens[0, :, 0, 0] > 0).astype(np.float32)
        found = Grounding(moments, saliency, window.frame_rate_fps, window.duration_seconds, 0.0)
        return [WindowAnswer(found, saliency)] * num_queries


@pytest.mark.parametrize("start", [0, 90, 110, 115, 125, 1395])
def test_a_long_video_is_read_in_windows_and_answered_in_its_own_time(
    start: int, tmp_path: Path
) -> None:
    store = make_store(tmp_path / "feats.zarr", num_videos=3)
    config = tiny_config(store)
    Spotter.asked = []
    trained_on = TrainedOn(longest_num_frames=120)
    grounder = Spotter(R2Model(config.model), config, store.spec, trained_on)
    tokens = np.full((2, 1440, 1, 1), -1, np.float16)
    tokens[:, start : start + 45] = 1
    held: list[int] = []

    def read(frames: slice) -> VideoFeatures:
        held.append(frames.stop - frames.start)
        return VideoFeatures("film", tokens[:, frames], 2880.0, 0.5)

    source = FrameSource("film", 1440, 2880.0, 0.5, read)
    query = store.read_query("v0-0")
    first, second = grounder.ground(source, [query, query])
    kept = first.moments[first.moments[:, 2] > 0]
    np.testing.assert_allclose(kept, [[2 * start, 2 * start + 90, 0.9]])
    assert np.array_equal(first.moments, second.moments)
    expected = np.zeros(1440)
    expected[start : start + 45] = 1
    np.testing.assert_array_equal(first.saliency, expected)
    assert max(held) == 120
    assert Spotter.asked == held


@pytest.mark.parametrize(("times", "most"), [(False, 1e-6), (True, 0.02)])
def test_windows_change_the_learned_video_score_by_frames_places_in_them_alone(
    times: bool, most: float, tmp_path: Path
) -> None:
    store = make_store(tmp_path / "feats.zarr", num_videos=8)
    config = tiny_config(store)
    model = R2Model(replace(config.model, temporal_features=times))
    grounder = Grounder(model, config, store.spec, TrainedOn())
    videos = [store.read_video(f"v{number}").tokens for number in range(8)]
    tokens = np.tile(np.concatenate(videos, axis=1), (1, 8, 1, 1))

    def read(frames: slice) -> VideoFeatures:
        return VideoFeatures("film", tokens[:, frames], 2.0 * tokens.shape[1], 0.5)

    film = FrameSource("film", tokens.shape[1], 2.0 * tokens.shape[1], 0.5, read)
    query = store.read_query("v0-0")
    plan = WindowPlan(32)
    assert len(plan.windows(film.num_frames)) > 3
    (whole,) = grounder.ground(film, [query], WindowPlan(None))
    (parts,) = grounder.ground(film, [query], plan)
    assert abs(whole.video_score - parts.video_score) < most
    if times:  # the places do count
        assert whole.video_score != parts.video_score


def test_short_videos_are_asked_as_one_and_long_ones_of_a_store_in_windows(
    tmp_path: Path,
) -> None:
    store = make_store(tmp_path / "feats.zarr", num_videos=3, min_frames=63)
    config = tiny_config(store)
    trained_on = TrainedOn(longest_num_frames=32)
    grounder = Grounder(R2Model(config.model), config, store.spec, trained_on)
    rows = store.annotations()
    counts: list[tuple[float, float]] = []
    plan = WindowPlan.of_run(trained_on)
    asked = StoredQueries(store, rows, plan, batch_size=4)
    assert asked.annotations == rows
    found = asked.ground(grounder, on_queries=lambda done, total: counts.append((done, total)))
    assert set(found) == {row.query_id for row in rows}
    assert counts[-1] == (6, 6)
    for number in range(3):
        saliency = found[f"v{number}-1"].saliency
        assert len(saliency) == 63 + number
        alone = grounder(store.read_video(f"v{number}"), store.read_query(f"v{number}-1"))
        same = np.allclose(saliency, alone.saliency, atol=1e-5)
        assert same == (number < 2)  # 64 frames are the limit


def plans(
    config: TrainConfig,
    windows: WindowChoice,
    *,
    longest_num_frames: int,
    longest_whole_num_frames: int | None = None,
) -> tuple[WindowPlan, ...]:
    trained_on = TrainedOn(
        longest_num_frames=longest_num_frames, longest_whole_num_frames=longest_whole_num_frames
    )
    return scoring_plan(config, trained_on, windows), asking_plan(config, trained_on, windows)


@pytest.mark.parametrize("name", PRESETS)
def test_a_dataset_is_scored_whole_and_other_videos_are_asked_as_fits_the_run(name: str) -> None:
    config = find_preset(name).train_config()
    whole, fitting = WindowPlan(None), WindowPlan(100, 1)
    assert plans(config, "auto", longest_num_frames=100) == (whole, fitting)
    assert plans(config, "off", longest_num_frames=100) == (whole, whole)
    assert plans(config, 64, longest_num_frames=100) == (WindowPlan(64), WindowPlan(64))
    # What the run was validated on whole is asked whole by every command.
    _, asking = plans(config, "auto", longest_num_frames=100, longest_whole_num_frames=323)
    assert not asking.divides(323)
    assert asking.divides(324)
    assert asking.windows(324)[0] == slice(0, 100)


def test_own_data_is_scored_as_it_is_asked_and_a_run_keeps_what_it_was_told() -> None:
    own = OWN_PRESET.train_config()
    fitting = WindowPlan(100, 1)
    assert plans(own, "auto", longest_num_frames=100) == (fitting, fitting)
    for config in (own, find_preset("tvsum").train_config()):
        told = replace(config, windows=48)
        assert plans(told, "auto", longest_num_frames=100) == (WindowPlan(48), WindowPlan(48))
        assert plans(told, "off", longest_num_frames=100) == (WindowPlan(None), WindowPlan(None))


@pytest.mark.parametrize("windows", [1, 0, -3, "on", True])
def test_no_windows_that_are_none(windows: Any) -> None:
    values = find_preset("tvsum").train_config().to_dict() | {"windows": windows}
    with pytest.raises(ConfigError, match=f"windows = {windows!r}"):
        TrainConfig.from_dict(values)


def test_a_prepared_video_answers_as_one_that_is_read_meanwhile(tmp_path: Path) -> None:
    store = make_store(tmp_path / "feats.zarr", lengths=[70, 30])
    config = tiny_config(store)
    grounder = Grounder(R2Model(config.model), config, store.spec, TrainedOn())
    queries = [store.read_query("v0-0"), store.read_query("v0-1")]
    for plan in (WindowPlan(32), WindowPlan(None)):
        source = store.open_video("v0")
        expected = grounder.ground(source, queries, plan)
        prepared = grounder.prepare(source, plan)
        assert len(prepared.parts) == len(plan.windows(70))
        for found, wanted in zip(grounder.ground(prepared, queries), expected, strict=True):
            np.testing.assert_array_equal(found.saliency, wanted.saliency)
            np.testing.assert_array_equal(found.moments, wanted.moments)


# As in TVSum, where three of ten validation videos are over twice as long as any of the training.
LENGTHS = (12, 9, 14, 11, 40, 90)


@pytest.mark.parametrize(("name", "divided"), [("qvhighlights", False), (OWN_DATA, True)])
def test_training_validates_as_the_run_is_evaluated_afterwards(
    name: str, divided: bool, tmp_path: Path
) -> None:
    store = make_store(tmp_path / "feats.zarr", lengths=LENGTHS)
    config = replace(tiny_config(store, epochs=1), preset=name)
    folder = train_model(config, store, split_annotations(store), tmp_path / "run")
    grounder = Grounder.load(tmp_path / "run")
    rows = store.annotations("val")

    def ask(plan: WindowPlan) -> dict[str, Grounding]:
        return StoredQueries(store, rows, plan, batch_size=3).ground(grounder)

    plan = scoring_plan(grounder.config, grounder.trained_on)
    found = ask(plan)
    result = evaluate_groundings(found, rows, config.evaluator)
    assert folder.metrics()[0]["metrics"] == result.summary
    whole = ask(WindowPlan(None))
    same = [np.allclose(found[i].saliency, whole[i].saliency, atol=1e-6) for i in whole]
    assert same == [True, True, not divided, not divided]
    # Every other command asks these videos in the same way.
    asking = asking_plan(grounder.config, grounder.trained_on)
    assert [asking.divides(length) for length in (40, 90)] == [False, divided]
    assert asking.divides(91)
