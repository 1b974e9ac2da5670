"""Is it in the video: the threshold, the pairs it is chosen on, and the weights it belongs to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_store import make_store, tiny_config

from r2t.store import Annotation
from r2t.store.errors import ConfigError
from r2t.train.checkpoint import RunFolder
from r2t.train.grounder import Grounder
from r2t.train.model import R2Model
from r2t.train.presence import (
    PRESENCE,
    PresenceRule,
    choose_rule,
    load_rule,
    presence_score,
    save_rule,
)


def test_the_threshold_gets_the_most_of_both_right() -> None:
    rule = PresenceRule.choose(np.array([0.9, 0.8, 0.7, 0.65, 0.2]), np.array([0.1, 0.3, 0.75]))
    assert rule.threshold == pytest.approx(0.475)
    assert (rule.recall, rule.rejected) == (0.8, pytest.approx(2 / 3))
    assert rule.precision == pytest.approx(0.8 / (0.8 + 1 / 3))
    assert rule.auc == pytest.approx(11 / 15)
    assert (rule.num_present, rule.num_absent) == (5, 3)


def test_scores_that_say_nothing_are_worth_a_coin() -> None:
    rule = PresenceRule.choose(np.ones(5), np.ones(7))
    assert rule.auc == 0.5
    assert rule.precision == 0.5
    with pytest.raises(ConfigError, match="some that are not"):
        PresenceRule.choose(np.ones(5), np.array([]))


def test_a_sentence_of_the_video_is_never_taken_as_absent(tmp_path: Path) -> None:
    store = make_store(tmp_path / "feats.zarr")
    config = tiny_config(store)
    grounder = Grounder(R2Model(config.model), config, store.spec, {})
    rows = store.annotations()
    # All videos of the tiny store share their two sentences; only v5 gets one of its own.
    with pytest.raises(ConfigError, match="some that are not"):
        choose_rule(grounder, store, rows)
    last = rows[-1]
    own = Annotation(last.query_id, last.video_id, "only here", last.moments)
    counts: list[int] = []
    rule = choose_rule(grounder, store, [*rows[:-1], own], on_queries=counts.append)
    assert rule.num_present == 12
    assert rule.num_absent == 5 + 5  # "only here" of five videos; "sentence 1" of v5, five times
    assert sum(counts) == 22
    scores = [
        presence_score(grounder(store.read_video(row.video_id), store.read_query(row.query_id)))
        for row in rows
    ]
    assert rule.recall == pytest.approx(np.mean(np.array(scores) >= rule.threshold))


def test_a_rule_belongs_to_the_weights_it_was_chosen_for(tmp_path: Path) -> None:
    store = make_store(tmp_path / "feats.zarr", num_videos=2)
    config = tiny_config(store)
    run = RunFolder(tmp_path / "run")
    run.claim(config, {}, resume=False)
    run.save_weights("best", R2Model(config.model))
    assert load_rule(run.path) is None
    rule = PresenceRule.choose(np.array([0.9, 0.8]), np.array([0.1]))
    save_rule(run.path, rule, {"split": "val"})
    assert load_rule(run.path) == rule
    content = json.loads((run.path / PRESENCE).read_text())
    for damage in ({**content, "threshold": "high"}, {"weights_sha256": content["weights_sha256"]}):
        (run.path / PRESENCE).write_text(json.dumps(damage))
        with pytest.raises(ConfigError, match="damaged"):
            load_rule(run.path)
    (run.path / PRESENCE).write_text(json.dumps(content))
    run.save_weights("best", R2Model(config.model))
    assert load_rule(run.path) is None
