"""What `r2t store info` says about a store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from r2t.cli.store import app
from r2t.cli.ui import human_bytes


def test_counts_and_coverage(make_store: Callable[..., Path]) -> None:
    path = make_store(4, num_val=1, without_features=["v1"])
    answer = CliRunner().invoke(app, ["info", "--store", str(path), "--json"])
    assert answer.exit_code == 0
    found = json.loads(answer.stdout)
    assert found["spec"]["vision_layers"] == [1, 2]
    assert found["provenance"]["pretrained"] == "none"
    assert (found["videos"], found["queries"]) == (3, 8)
    assert found["frames"] == 8 + 10 + 11
    assert found["bytes"] == found["frames"] * 2 * 3 * 16 * 2
    assert found["splits"] == {
        "train": {"queries": 6, "videos": 3, "moments": 6},
        "val": {"queries": 2, "videos": 1, "moments": 2},
    }
    assert found["annotated_without_features"] == ["v1"]
    assert found["features_without_annotations"] == []


def test_the_table_names_missing_videos(make_store: Callable[..., Path]) -> None:
    missing = [f"v{number}" for number in range(7)]
    path = make_store(8, without_features=missing)
    answer = CliRunner().invoke(app, ["info", "--store", str(path)])
    assert answer.exit_code == 0
    lines = {line.split("│")[1].strip(): line for line in answer.stdout.splitlines() if "│" in line}
    assert "7: v0, v1, v2, v3, v4 and 2 more" in lines["annotated without features"]
    assert "none" in lines["features without annotations"]
    assert "[0.5, 0.5, 0.5]" in lines["mean"]


def test_what_is_no_store_is_one_line_and_exit_2(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["info", "--store", str(tmp_path / "none.zarr")])
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == 1
    assert answer.stderr.startswith("error: ")
    assert "none.zarr" in answer.stderr


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (307_200, "307 kB"), (2.15e11, "215 GB"), (4.2e12, "4.2 TB")],
)
def test_bytes_for_people(num_bytes: float, text: str) -> None:
    assert human_bytes(num_bytes) == text
