"""`r2t calibrate` writes into the run's folder what it prints."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from demo_run import presence_rule
from tiny_config import tiny_config
from toy_store import make_store
from typer.testing import Result

from r2t.cli.commands.calibrate import calibrate
from r2t.store import FeatureStore
from r2t.train import grounding
from r2t.train.grounding.presence import save_rule
from r2t.train.model.model import R2Model
from r2t.train.run.run_folder import RunFolder
from r2t.train.run.trained_on import TrainedOn


@pytest.fixture
def run(tmp_path: Path) -> Path:
    store = make_store(tmp_path / "feats.zarr")
    config = tiny_config(store)
    folder = RunFolder(tmp_path / "run")
    folder.claim(config, TrainedOn(identity=store.spec), resume=False)
    folder.save_weights("best", R2Model(config.model))
    return folder.path


@pytest.fixture
def told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every video sentences of its own."""
    given = FeatureStore.annotations

    def distinct(store: FeatureStore, *args: str | None) -> list[object]:
        return [replace(row, query=f"{row.video_id} {row.query}") for row in given(store, *args)]

    monkeypatch.setattr(FeatureStore, "annotations", distinct)


def test_the_rule_is_in_the_folder(
    run_command: Callable[..., Result], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grounding, "choose_presence_rule", lambda *_, **__: presence_rule(0.25))
    asked = ("--store", tmp_path / "feats.zarr", "--checkpoint", run, "--device", "cpu")
    answer = run_command(calibrate, *asked, "--json", "--absent", 1)
    assert answer.exit_code == 0, answer.stderr
    printed = json.loads(answer.stdout)
    written = json.loads((run / "presence.json").read_text())
    assert printed.pop("useful") is True
    assert printed.items() <= written.items()
    text = run_command(calibrate, *asked)
    assert (
        "a sentence counts as present from 0.250 on (learned cosine of the 3 best frames): right "
        "for 90% of 100 "
        "sentences" in text.stdout
    )
    assert f"written: {run / 'presence.json'}" in text.stderr
    assert "looks better than it is" not in text.stderr
    told = run_command(calibrate, *asked, "--split", "train").stderr
    assert "looks better than it is" in " ".join(told.split())


@pytest.mark.usefixtures("told_apart")
def test_a_rule_of_no_use_is_not_written(
    run_command: Callable[..., Result], run: Path, tmp_path: Path
) -> None:
    asked = ("--store", tmp_path / "feats.zarr", "--checkpoint", run, "--device", "cpu")
    answer = run_command(calibrate, *asked, "--absent", 1)
    assert answer.exit_code == 1
    assert "of 4 sentences of the video" in answer.stdout
    told = " ".join(answer.stderr.split())
    assert "not written: it is right for " in told
    assert "the intervals must stay above 75% and below 25%. More annotated videos of" in told
    assert not (run / "presence.json").exists()
    save_rule(run, presence_rule(0.25), {})
    before = (run / "presence.json").read_bytes()
    answer = run_command(calibrate, *asked, "--absent", 1, "--json")
    assert answer.exit_code == 1
    assert json.loads(answer.stdout)["useful"] is False
    assert "presence.json of an earlier calibration stays in use" in answer.stderr
    assert (run / "presence.json").read_bytes() == before


def test_a_place_that_cannot_be_written_is_refused_before_any_question(
    run_command: Callable[..., Result], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    answer = run_command(calibrate, "--store", tmp_path / "feats.zarr", "--checkpoint", run)
    assert answer.exit_code == 2
    assert f"cannot write into {run}: Read-only file system" in answer.stderr


def test_one_video_has_no_other_to_borrow_from(
    run_command: Callable[..., Result], run: Path, tmp_path: Path
) -> None:
    asked = ("--store", tmp_path / "feats.zarr", "--checkpoint", run, "--split", "test")
    answer = run_command(calibrate, *asked)
    assert answer.exit_code == 2
    assert "fewer than two videos in split 'test'" in answer.stderr
    assert "takes two; take --split val" in answer.stderr
