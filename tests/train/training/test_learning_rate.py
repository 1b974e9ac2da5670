"""The learning rate against the official schedule, iteration by iteration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r2t.store.errors import ConfigError
from r2t.train.run.config import ScheduleConfig
from r2t.train.training.optimizer import learning_rate


@pytest.mark.parametrize("name", ["qvh_like", "hd_like", "warmup_past_step"])
def test_rates_equal_the_official(name: str, golden_folder: Path) -> None:
    case = json.loads((golden_folder / "post" / "lr.json").read_text())[name]
    steps = case["lr_schedule"]["step"] if case["lr_schedule"] else ()
    schedule = ScheduleConfig(
        learning_rate=case["lr"],
        warmup_iterations=case["warmup"]["steps"],
        warmup_ratio=case["warmup"]["ratio"],
        step_epochs=tuple(steps),
    )
    rates = [learning_rate(schedule, i, case["iters"]) for i in range(len(case["lrs"]))]
    assert len(rates) == case["iters"] * case["epochs"]
    np.testing.assert_allclose(rates, case["lrs"], rtol=1e-12)


def test_without_warm_up_the_first_rate_is_the_base() -> None:
    schedule = ScheduleConfig(learning_rate=0.01, warmup_iterations=0)
    assert learning_rate(schedule, 0, 10) == 0.01


def test_the_base_rate_that_warm_up_ends_on_holds_for_that_epoch() -> None:
    schedule = ScheduleConfig(learning_rate=0.01, warmup_iterations=10, step_epochs=(2,))
    rates = [
        learning_rate(schedule, iteration, iterations_per_epoch=5) for iteration in range(10, 16)
    ]
    assert rates == pytest.approx([0.01] * 5 + [0.001])


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("learning_rate", 0.0),
        ("warmup_iterations", -1),
        ("step_epochs", (20, 10)),
        ("step_epochs", (0, 10)),
        ("decay", 2.0),
    ],
)
def test_impossible_settings_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=setting):
        ScheduleConfig(**{setting: value})
