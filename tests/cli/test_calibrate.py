"""`r2t calibrate` writes into the run's folder what it prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_store import make_store, tiny_config
from typer.testing import Result

from r2t.cli.calibrate import calibrate
from r2t.store import FeatureStore
from r2t.train.checkpoint import RunFolder
from r2t.train.model import R2Model


@pytest.fixture
def run(tmp_path: Path) -> Path:
    store = make_store(tmp_path / "feats.zarr")
    config = tiny_config(store)
    folder = RunFolder(tmp_path / "run")
    folder.claim(config, {"identity": store.spec.to_dict()}, resume=False)
    folder.save_weights("best", R2Model(config.model))
    return folder.path


def test_the_rule_is_in_the_folder(
    run_command: Callable[..., Result],
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = FeatureStore.annotations

    def distinct(store: FeatureStore, *args: str | None) -> list[object]:
        return [replace(row, query=f"{row.video_id} {row.query}") for row in given(store, *args)]

    monkeypatch.setattr(FeatureStore, "annotations", distinct)
    asked = ("--store", tmp_path / "feats.zarr", "--checkpoint", run, "--device", "cpu")
    answer = run_command(calibrate, *asked, "--json", "--absent", 1)
    assert answer.exit_code == 0, answer.stderr
    printed = json.loads(answer.stdout)
    written = json.loads((run / "presence.json").read_text())
    assert printed.items() <= written.items()
    assert (printed["num_present"], printed["num_absent"]) == (4, 4)
    text = run_command(calibrate, *asked)
    assert "present from a saliency of" in text.stdout


def test_one_video_has_no_other_to_borrow_from(
    run_command: Callable[..., Result], run: Path, tmp_path: Path
) -> None:
    asked = ("--store", tmp_path / "feats.zarr", "--checkpoint", run, "--split", "test")
    answer = run_command(calibrate, *asked)
    assert answer.exit_code == 2
    assert "fewer than two videos in split 'test'" in answer.stderr
