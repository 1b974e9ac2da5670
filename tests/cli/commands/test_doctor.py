"""`r2t doctor` on this machine, and on one whose decoder lies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import r2t.extract
from r2t.cli.commands.doctor import doctor
from r2t.extract import selftest
from r2t.extract.demo.world import make_story, write_video
from r2t.store.errors import VideoError


def test_a_working_machine_passes(run_command: Callable[..., Result]) -> None:
    answer = run_command(doctor, "--json")
    assert answer.exit_code == 0, answer.output
    checks = {check["name"]: check for check in json.loads(answer.stdout)["checks"]}
    for name in ("pyav", "r2t-demo", "torch", "zarr", "working folder"):
        assert checks[name]["state"] == "ok", checks[name]
    assert checks["pyav"]["found"].startswith("pyav ")
    assert all(check["advice"] for check in checks.values() if check["state"] != "ok")


def test_a_broken_decoder_is_a_problem_with_advice(
    run_command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(decoder: str) -> str:
        raise VideoError(f"{decoder} crashed")

    monkeypatch.setattr(r2t.extract, "check_decoder", fail)
    answer = run_command(doctor)
    assert answer.exit_code == 1
    assert "pyav crashed" in answer.stdout
    assert "--force-reinstall av" in answer.stdout


def test_a_decoder_that_shows_other_pictures_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_another(path: Path, _: object) -> None:
        write_video(path, make_story("test", 0, 1).scene)

    monkeypatch.setattr(selftest, "write_video", write_another)
    with pytest.raises(VideoError, match="away from what was drawn"):
        selftest.check_decoder("pyav")
