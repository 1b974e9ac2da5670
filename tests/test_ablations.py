"""The ablations' grid and statistics; the trainings are for `benchmarks/ablations.py`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from ablation_study.grid import TABLES, VARIANTS
from ablation_study.scores import (
    METRICS,
    Resamples,
    Scores,
    by_group,
    markdown,
    plot,
    rows,
    write_csv,
)

from r2t.train.model.losses import LossConfig
from r2t.train.run.presets import find_preset


def test_every_row_is_a_variant_that_changes_one_thing() -> None:
    shown = {key for variants in TABLES.values() for key in variants.values()}
    assert shown == VARIANTS.keys()
    config = find_preset("qvhighlights").train_config()
    found = {key: variant.configure(config) for key, variant in VARIANTS.items()}
    assert found["default"] == config
    same = {"int8"}  # changes the store alone
    assert len(set(found.values())) == len(found) - len(same)
    assert found["no-calibration"].losses == LossConfig(video_weight=0, layer_weight=0)
    for variants in TABLES.values():
        assert next(iter(variants.values())) == "default" or "default" in variants.values()


def scores(shift: float, num_seeds: int = 3) -> Scores:
    """Make scores of 40 queries of 10 videos; `shift` moves them all."""
    random = np.random.default_rng(0)
    values = random.normal(50, 10, (num_seeds, 40)) + shift
    ids = [str(number) for number in range(40)]
    metrics = dict.fromkeys(METRICS, values)
    return Scores(ids, [f"v{number // 4}" for number in range(40)], metrics, metrics)


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
@pytest.mark.parametrize(("between_videos", "between_seeds"), [(5, 2), (5, 0.5), (2, 3)])
def test_intervals_cover_what_they_should(
    num_seeds: int, between_videos: float, between_seeds: float
) -> None:
    """Means of fresh draws, seeds and videos anew, lie in nearly all of their intervals."""
    random = np.random.default_rng(1)
    resamples = Resamples([str(number // 4) for number in range(200)], num_seeds)
    covered = 0
    widths: list[float] = []
    for _ in range(100):
        of_video = random.normal(0, between_videos, 50).repeat(4)
        of_seed = random.normal(0, between_seeds, (num_seeds, 1))
        values = of_video + of_seed + random.normal(0, 3, (num_seeds, 200))
        found = resamples.interval(values)
        assert found.value == pytest.approx(values.mean())
        covered += found.low <= 0 <= found.high
        widths.append(found.high - found.low)
    assert covered >= 90
    error = np.hypot(between_videos / 50**0.5, between_seeds / num_seeds**0.5)
    assert np.median(widths) < {2: 22, 3: 8, 5: 6}[num_seeds] * error  # 3.9 if both were known


def test_differences_are_paired_and_groups_are_apart() -> None:
    found = {"default": scores(0), "mean": scores(-5), "cls": scores(1, num_seeds=2)}
    table = rows(found)
    by_variant = {row["variant"]: row for row in table if row["table"] == "Spatial pooling"}
    lead = by_variant["mean"]["mAP to default"]
    assert (lead.value, lead.low, lead.high) == pytest.approx((-5, -5, -5))
    assert by_variant["mean"]["mAP"].low < 45 < by_variant["mean"]["mAP"].high
    assert by_variant["cls"]["seeds"] == 2
    groups = {str(number): ["odd" if number % 2 else "even"] for number in range(40)}
    chosen = np.arange(40) % 2 == 1
    odd = scores(0).metrics["MR-full-mAP"][:, chosen].mean()
    text = by_group(found, groups)
    assert f"{odd:.1f} [" in text.splitlines()[2].split("|")[4]
    assert text.splitlines()[-1] == "| queries | | 20 | 20 |"


def test_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "default.json"
    one = scores(0, num_seeds=1)
    metrics = {name: values[0].tolist() for name, values in one.metrics.items()}
    content = {"query_ids": one.query_ids, "video_ids": one.video_ids}
    path.write_text(json.dumps({**content, "metrics": metrics, "others": metrics}))
    read = Scores.read([path])
    np.testing.assert_array_equal(read.metrics["MR-full-mAP"], one.metrics["MR-full-mAP"])
    found = rows({"default": read, "mean": scores(2, num_seeds=1)})
    text = markdown(found)
    assert "**Spatial pooling**" in text
    assert "**Calibration**" not in text  # its other rows have not been run
    assert "+2.0 [+2.0, +2.0]" in text
    write_csv(found, tmp_path / "all.csv")
    with (tmp_path / "all.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [row["variant"] for row in written].count("mean") == 1
    [lead] = [row["mAP to default"] for row in written if row["variant"] == "mean"]
    assert float(lead) == pytest.approx(2)
    plot(found, tmp_path / "all.png")
    assert (tmp_path / "all.png").stat().st_size > 5000
