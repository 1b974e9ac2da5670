"""`r2t data check` on a folder with a good video, a broken one and a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from barcode_videos import Recipe, write_video
from typer.testing import Result

from r2t.cli.commands.data import check


def test_problems_are_told_and_exit_with_1_and_none_with_0(
    run_command: Callable[..., Result], tmp_path: Path
) -> None:
    write_video(tmp_path / "dog", Recipe())  # five seconds
    table = tmp_path / "mine.csv"
    table.write_text("video,query,start,end\ndog,a ball,1,4\ndog,later,3,9\n")
    answer = run_command(check, "--videos", tmp_path)
    assert answer.exit_code == 1
    assert "out of range: 1" in answer.stdout
    told = " ".join(answer.stdout.split())  # lines break where the path of the file has them break
    assert "[3, 9] of dog, which ends at 5.00 s" in told
    assert "1 video, 2 queries, 2 moments: 1 problem\n" in answer.stdout
    table.write_text("video,query,start,end\ndog,a ball,1,4\ndog,soon,3,4\n")
    answer = run_command(check, "--videos", tmp_path, "--annotations", f"val={table}", "--json")
    assert answer.exit_code == 0
    found = json.loads(answer.stdout)
    assert found["ok"] is True
    assert found["problems"] == {}
    assert found["notes"]["too_short"]["count"] == 1


def test_what_cannot_be_checked_at_all_is_one_line(
    run_command: Callable[..., Result], tmp_path: Path
) -> None:
    answer = run_command(check, "--videos", tmp_path)
    assert answer.exit_code == 2
    assert "there are no annotations in" in answer.stderr
    answer = run_command(check, "--videos", tmp_path, "--annotations", tmp_path / "none.csv")
    assert answer.exit_code == 2
    assert "cannot read" in answer.stderr
