"""What follows the data where no dataset's preset is asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from r2t.train.run.own_data import OWN_PRESET, follow_data, follow_run
from r2t.train.run.presets import QVHIGHLIGHTS
from r2t.train.training.optimizer import learning_rate


def test_qvhighlights_itself_would_get_its_own_schedule() -> None:
    own = follow_data(OWN_PRESET.train_config(), num_queries=7218, frame_rate=0.5)
    assert own.min_duration_seconds == 0
    assert own.prior == "auto"
    assert replace(own, preset="qvhighlights", min_duration_seconds=5, prior="off") == (
        QVHIGHLIGHTS.train_config()
    )


def test_the_official_recipe_counts_its_own_iterations() -> None:
    official = OWN_PRESET.train_config(recipe="official")
    own = follow_data(official, num_queries=7218, frame_rate=0.5)
    assert own.num_iterations(7218) == 226 * 30
    assert own.schedule.warmup_iterations == round(500 * 226 / 228)
    assert (own.model.padding, own.min_duration_seconds) == ("official", 0)
    assert own.prior == "off"


@pytest.mark.parametrize(
    ("num_queries", "epochs", "batch_size", "frame_rate", "expected"),
    [
        (64, 30, 128, 1.0, (9, (20,), 1.0)),  # of 120 iterations
        (64, 8, 32, 2.0, (5, (5,), 0.5)),  # of 64
        (3, 1, 32, "per-video", (0, (), None)),
        (50_000, 60, 128, 0.5, (6860, (40,), 2.0)),
    ],
)
def test_small_and_large_data_get_the_same_shares(
    num_queries: int, epochs: int, batch_size: int, frame_rate: float, expected: tuple[object, ...]
) -> None:
    config = replace(OWN_PRESET.train_config(), epochs=epochs, batch_size=batch_size)
    own = follow_data(config, num_queries=num_queries, frame_rate=frame_rate)
    schedule = own.schedule
    found = (schedule.warmup_iterations, schedule.step_epochs, own.decoding.unit_seconds)
    assert found == expected
    steps_per_epoch = -(-num_queries // batch_size) * config.repeats
    reached = {
        learning_rate(schedule, iteration, steps_per_epoch)
        for iteration in range(own.num_iterations(num_queries))
    }
    assert schedule.learning_rate in reached  # the warm-up ends within the run
    begun = follow_data(config, num_queries=1, frame_rate=3.0)
    assert follow_run(own, begun) == replace(begun, batch_size=batch_size)
