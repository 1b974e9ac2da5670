"""Is it in the video: the threshold, the pairs it is chosen on, and the weights it belongs to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from demo_run import presence_rule
from tiny_config import tiny_config
from toy_store import FRAME_RATE_FPS, make_store

from r2t.store import Annotation
from r2t.store.errors import ConfigError, RunWarning
from r2t.train.grounding.grounder import Grounder
from r2t.train.grounding.presence import (
    PRESENCE,
    PresenceRule,
    load_rule,
    save_rule,
)
from r2t.train.grounding.presence_choice import choose_presence_rule
from r2t.train.grounding.presence_scores import PresenceScores
from r2t.train.model.model import R2Model
from r2t.train.model.ranking import LEARNED_SCORE
from r2t.train.run.run_folder import RunFolder
from r2t.train.run.trained_on import TrainedOn


def scored(present: list[float], absent: list[float], num_videos: int) -> PresenceScores:
    """Deal scores out to videos in turn."""
    return PresenceScores(
        np.array(present),
        np.array(absent),
        np.arange(len(present)) % num_videos,
        np.arange(len(absent)) % num_videos,
    )


def drawn(seed: int, lead: float, *, num_videos: int = 30) -> PresenceScores:
    """Draw scores of five queries a video and of five more, whose own ones lead by so much.

    All scores of a video are shifted alike, as those of alike queries are.
    """
    generator = np.random.default_rng(seed)
    of_present, of_absent = generator.normal(0, 1, (2, 5, num_videos))
    shift = generator.normal(0, 1, num_videos)
    videos = np.tile(np.arange(num_videos), 5)
    return PresenceScores(
        (of_present + shift + lead).ravel(), (of_absent + shift).ravel(), videos, videos
    )


def chosen(scores: PresenceScores) -> PresenceRule:
    return PresenceRule.choose(scores, LEARNED_SCORE, 1.0)


def test_the_threshold_gets_the_most_of_both_right() -> None:
    rule = chosen(scored([0.9, 0.8, 0.7, 0.65, 0.2], [0.1, 0.3, 0.75], 3))
    assert rule.threshold == pytest.approx(0.475)
    assert (rule.recall, rule.rejected) == (0.8, pytest.approx(2 / 3))
    assert rule.precision == pytest.approx(0.8 / (0.8 + 1 / 3))
    assert rule.auc == pytest.approx(11 / 15)
    assert (rule.num_present, rule.num_absent) == (5, 3)
    assert rule.denies(0.47)
    assert not rule.denies(0.48)


def test_scores_that_say_nothing_are_worth_a_coin() -> None:
    rule = chosen(scored([1.0] * 5, [1.0] * 7, 3))
    assert rule.auc == 0.5
    assert rule.precision == 0.5
    assert rule.shortcoming is not None
    with pytest.raises(ConfigError, match="some that are not"):
        scored([1.0] * 5, [], 3)


@pytest.mark.parametrize(("lead", "useful"), [(0.0, False), (1.0, False), (4.0, True), (-2, False)])
def test_a_rule_is_useful_if_its_intervals_say_so(lead: float, useful: bool) -> None:
    rules = [chosen(drawn(seed, lead)) for seed in range(40)]
    assert sum((rule.shortcoming is None) is useful for rule in rules) >= 38
    for rule in rules:
        assert 0 <= rule.auc_low <= rule.auc <= rule.auc_high <= 1
        assert 0 <= rule.held_out_right_low <= rule.held_out_right <= rule.held_out_right_high <= 1


def test_intervals_cover_what_other_videos_give() -> None:
    truth = chosen(drawn(999, 0.7, num_videos=20_000)).auc
    rules = [chosen(drawn(seed, 0.7, num_videos=12)) for seed in range(200)]
    covering = sum(rule.auc_low <= truth <= rule.auc_high for rule in rules)
    assert covering >= 180


@pytest.mark.parametrize(("num_videos", "useful"), [(1, False), (2, False), (3, False), (12, True)])
def test_few_videos_prove_nothing_even_in_perfect_order(num_videos: int, useful: bool) -> None:
    present = np.linspace(0.6, 1, 2 * num_videos).tolist()
    rule = chosen(scored(present, [0.1 * each for each in present], num_videos))
    assert rule.auc == 1
    assert (rule.shortcoming is None) is useful
    # None of n wrong is compatible with about three of n.
    assert rule.held_out_false_alarms_high >= 3 / (3 * num_videos)
    assert rule.held_out_misses_high >= 3 / (3 * num_videos)


def test_a_sentence_of_the_video_is_never_taken_as_absent(tmp_path: Path) -> None:
    store = make_store(tmp_path / "feats.zarr")
    config = tiny_config(store)
    grounder = Grounder(R2Model(config.model), config, store.spec, TrainedOn())
    rows = store.annotations()
    # All videos of the tiny store share their two sentences; only v5 gets one of its own.
    with pytest.raises(ConfigError, match="some that are not"):
        choose_presence_rule(grounder, store, rows)
    last = rows[-1]
    own = Annotation(last.query_id, last.video_id, "only here", last.moments)
    counts: list[tuple[float, float]] = []
    rule = choose_presence_rule(
        grounder,
        store,
        [*rows[:-1], own],
        on_queries=lambda done, total: counts.append((done, total)),
    )
    assert rule.num_present == 12
    assert rule.num_absent == 5 + 5  # "only here" of five videos; "sentence 1" of v5, five times
    assert counts[-1] == (22, 22)
    scores = [
        grounder(store.read_video(row.video_id), store.read_query(row.query_id)).video_score
        for row in rows
    ]
    assert rule.recall == pytest.approx(np.mean(np.array(scores) >= rule.threshold))


def test_a_rule_belongs_to_the_weights_it_was_chosen_for(tmp_path: Path) -> None:
    store = make_store(tmp_path / "feats.zarr", num_videos=2)
    config = tiny_config(store)
    run = RunFolder(tmp_path / "run")
    run.claim(config, TrainedOn(), resume=False)
    run.save_weights("best", R2Model(config.model))
    assert load_rule(run.path, LEARNED_SCORE, FRAME_RATE_FPS) is None
    rule = presence_rule(0.5)
    save_rule(run.path, rule, {"split": "val"})
    assert load_rule(run.path, LEARNED_SCORE, FRAME_RATE_FPS) == rule
    content = json.loads((run.path / PRESENCE).read_text())
    thresholds = [{**content, "threshold": each} for each in ("high", True, np.nan, np.inf)]
    for damage in (*thresholds, {"weights_sha256": content["weights_sha256"]}):
        (run.path / PRESENCE).write_text(json.dumps(damage))
        with pytest.raises(ConfigError, match="damaged"):
            load_rule(run.path, LEARNED_SCORE, FRAME_RATE_FPS)
    (run.path / PRESENCE).write_text(json.dumps(content))
    weak = {**content, "held_out_right_low": 0.74}
    denying = {**content, "held_out_misses_high": 0.26}
    rateless = {name: value for name, value in content.items() if name != "frame_rate"}
    old = {name: value for name, value in content.items() if not name.endswith(("_low", "_high"))}
    nameless = {name: value for name, value in content.items() if name != "score"}
    other = {**content, "score": "phase of the moon"}
    for odd, why in (
        (weak, r"is right for 90\.0% \[74\.0%, 100\.0%\] of sentences of videos"),
        (
            denying,
            r"is right .* and denies 10\.0% \[0\.0%, 26\.0%\] of those .* above 75% and below 25%",
        ),
        (rateless, "does not say which frame rate it is for"),
        ({**content, "frame_rate": 2.0}, r"was chosen at --fps 2\.0, and here it is 0\.5; ask at"),
        ({**content, "frame_rate": "per-video"}, r"was .* and here it is 0\.5; search a store"),
        (old, "does not say how well it tells on other videos"),
        (nameless, "does not say which score it is for, and videos are ranked by learned cosine"),
        (other, "is a threshold of the phase of the moon, and videos are"),
    ):
        (run.path / PRESENCE).write_text(json.dumps(odd))
        with pytest.warns(RunWarning, match=rf"presence\.json is not used: it {why}"):
            assert load_rule(run.path, LEARNED_SCORE, FRAME_RATE_FPS) is None
    (run.path / PRESENCE).write_text(json.dumps(content))
    run.save_weights("best", R2Model(config.model))
    with pytest.warns(RunWarning, match="chosen for other weights"):
        assert load_rule(run.path, LEARNED_SCORE, FRAME_RATE_FPS) is None
