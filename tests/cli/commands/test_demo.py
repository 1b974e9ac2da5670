"""The demo: its first answer from the shipped run, and the same from scratch."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from documents import ROOT
from typer.testing import CliRunner

from r2t.cli.commands.demo import demo
from r2t.cli.commands.demo.first import PICTURE, first_answer, shipped_run
from r2t.cli.commands.demo.steps import FULL, QUICK, USUAL, DemoSize
from r2t.cli.main import app

RANDOM_MOMENTS = 6.7  # R1@0.5 of moments drawn without looking, in percent


def test_the_shipped_run_says_where_it_comes_from() -> None:
    run = shipped_run()
    provenance = json.loads((run / "provenance.json").read_text())
    config = json.loads((run / "config.json").read_text())
    identity = config["trained_on"]["identity"]
    assert provenance["clip_weights_sha256"] == identity["weights_sha256"]
    assert provenance["made_by"] == "benchmarks/train_demo_run.py"
    assert provenance["epochs"] == config["config"]["epochs"]
    assert provenance["seed"] == config["config"]["seed"]
    assert provenance["scores"]["R²-Tuning"]["R1@0.5"]["value"] > 4 * RANDOM_MOMENTS
    assert "/" not in config["trained_on"]["store"]
    assert sum(path.stat().st_size for path in run.iterdir() if path.is_file()) < 2_000_000


def test_the_first_answer_is_of_an_unseen_video_and_drawn(tmp_path: Path) -> None:
    first = first_answer(tmp_path)
    assert first.video == tmp_path / "videos/world-test-0-0000.mp4"
    assert first.picture == tmp_path / PICTURE
    assert first.picture.read_bytes()[:4] == b"\x89PNG"
    assert [path.name for path in (tmp_path / "videos").glob("*.mp4")] == [first.video.name]
    answer = first.as_json()
    assert len(answer["moments"]) == 3
    start, end, _ = answer["moments"][0]
    assert any(min(end, b) - max(start, a) > 0 for a, b in answer["annotated"])
    assert_readme_shows(answer["moments"])


def test_readme_gives_the_scores_of_the_run_that_ships() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    made = json.loads((shipped_run() / "provenance.json").read_text())
    scores = [f"{score['value']:.1f}" for score in made["scores"]["R²-Tuning"].values()]
    kinds = made["mAP_by_kind"]["R²-Tuning"]
    shown = [f"{kinds[kind]:.1f}" for kind in ("action", "attribute", "presence", "place", "size")]
    assert f"| R²-Tuning with the prior | {' | '.join(scores)} | | |" in readme
    assert f"| R²-Tuning with the prior | {' | '.join(shown)} |" in readme


def assert_readme_shows(moments: list[list[float]]) -> None:
    """Hold README's example against the run that ships; encoders may differ in a score's digits."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^│ \d │ 0:([\d.]+) - 0:([\d.]+) │ +[\d.]+ │ ([\d.]+) │$", text, re.MULTILINE
    )
    shown = [[float(number) for number in row] for row in rows]
    assert len(shown) == len(moments)
    for row, moment in zip(shown, moments, strict=True):
        assert row == pytest.approx(moment, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ({}, USUAL),
        ({"quick": True}, QUICK),
        ({"full": True}, FULL),
        ({"quick": True, "epochs": 3}, DemoSize(60, 20, 3, val_videos=10)),
        ({"full": True, "videos": 9, "test_videos": 4}, DemoSize(9, 4, 18, seeds=3)),
    ],
)
def test_numbers_that_are_given_count_instead_of_a_sizes_own(
    arguments: dict[str, int], size: DemoSize
) -> None:
    given = {"quick": False, "full": False, "videos": None, "test_videos": None, "epochs": None}
    assert demo._size(**(given | arguments)) == size  # type: ignore[arg-type]


def test_quick_and_full_exclude_each_other(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--quick", "--full", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "--quick and --full" in result.output
    assert not list(tmp_path.iterdir())


def test_a_quick_demo_answers_first_and_then_trains(tmp_path: Path) -> None:
    sizes = ["--videos", "4", "--test-videos", "2", "--epochs", "1"]
    out = tmp_path / "demo"
    result = CliRunner().invoke(app, ["demo", "--quick", *sizes, "--out", str(out)])
    assert result.exit_code == 0, result.output
    lines = result.output
    assert lines.index("ships with the package") < lines.index("1/5 videos")
    assert lines.index("annotated:") < lines.index("1/5 videos")
    assert "2 unseen videos" in lines
    assert (out / "first-answer.png").exists()
    assert (out / "example.png").exists()
    scores = json.loads((out / "scores.json").read_text())
    assert scores["runs"] == [str(out / "runs/4-videos-1-epochs-seed-0")]
    assert len(scores["trainings"]) == 1

    fewer = ["--videos", "3", "--test-videos", "2", "--epochs", "1"]
    again = CliRunner().invoke(app, ["demo", "--quick", *fewer, "--out", str(out)])
    assert again.exit_code == 2
    assert "give another --out" in again.output
