"""`r2t submission` on good and bad predictions."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from r2t.cli.commands.submission import submission


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prediction(qid: int, end: float = 4.0) -> dict[str, object]:
    return {
        "qid": qid,
        "query": "a dog",
        "vid": "v",
        "pred_relevant_windows": [[0.0, end, 0.5]],
        "pred_saliency_scores": [0.0] * 5,
    }


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    rows: list[dict[str, object]] = [
        {"qid": qid, "query": "a dog", "vid": "v", "duration": 10, "relevant_windows": [[0, 4]]}
        for qid in (1, 2)
    ]
    return write_rows(tmp_path / "val.jsonl", rows)


def test_good_predictions_are_packed_flat(
    run_command: Callable[..., Result], truth: Path, tmp_path: Path
) -> None:
    mine = write_rows(tmp_path / "mine.jsonl", [prediction(2), prediction(1)])
    out = tmp_path / "mine.zip"
    result = run_command(submission, out, "--val", mine, "--annotations", truth, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["queries"] == {"val": 2}
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist() == ["hl_val_submission.jsonl"]
        packed = [json.loads(line) for line in archive.read(archive.namelist()[0]).splitlines()]
    assert [row["qid"] for row in packed] == [2, 1]


def test_bad_predictions_are_named_and_not_packed(
    run_command: Callable[..., Result], truth: Path, tmp_path: Path
) -> None:
    mine = write_rows(tmp_path / "mine.jsonl", [prediction(1), prediction(3)])
    out = tmp_path / "mine.zip"
    result = run_command(submission, out, "--val", mine, "--annotations", truth, "--json")
    assert result.exit_code == 1
    problems = " ".join(json.loads(result.stdout)["problems"])
    assert "queries have no prediction: 2" in problems
    assert "unknown queries: 3" in problems
    assert not out.exists()


def test_what_only_looks_wrong_is_a_warning_unless_strict(
    run_command: Callable[..., Result], truth: Path, tmp_path: Path
) -> None:
    odd = prediction(2) | {"pred_relevant_windows": [[0, 4, 0.1], [5, 12, 0.9]]}
    odd["pred_saliency_scores"] = [0.0]
    mine = write_rows(tmp_path / "mine.jsonl", [prediction(1), odd])
    out = tmp_path / "mine.zip"
    command = (submission, out, "--val", mine, "--annotations", truth)
    result = run_command(*command, "--strict", "--json")
    assert result.exit_code == 1
    assert not out.exists()
    problems = json.loads(result.stdout)["problems"]
    result = run_command(*command, "--json")
    assert (result.exit_code, out.exists()) == (0, True)
    assert json.loads(result.stdout)["warnings"] == problems
    told = " ".join(result.stderr.split())
    assert "1 of 2 predictions hold a moment outside their video: 2" in told
    assert "1 of 2 predictions are not sorted by score" in told
    assert "(at worst 1 for 5): 2" in told


def test_impossible_requests(
    run_command: Callable[..., Result], truth: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine.zip"
    assert run_command(submission, out, "--annotations", truth).exit_code == 2
    mine = write_rows(tmp_path / "mine.jsonl", [prediction(1)])
    result = run_command(submission, out, "--test", mine, "--annotations", truth)
    assert result.exit_code == 2
    assert not out.exists()
