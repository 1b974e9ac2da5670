"""`r2t train --init`: a run that begins with another's weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_config import tiny_config
from toy_store import make_store
from typer.testing import Result

from r2t.cli.commands.train.train import train
from r2t.store import FeatureStore
from r2t.train.run.run_folder import RunFolder
from r2t.train.training.fit import split_annotations, train_model

RunCommand = Callable[..., Result]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureStore, Path]:
    folder = tmp_path_factory.mktemp("trained")
    store = make_store(folder / "feats.zarr")
    train_model(tiny_config(store, epochs=1), store, split_annotations(store), folder / "run")
    return store, folder / "run"


def test_it_begins_where_the_other_ended_and_says_so(
    run_command: RunCommand, trained: tuple[FeatureStore, Path], tmp_path: Path
) -> None:
    store, run = trained
    asked = ("--store", store.location, "--out", tmp_path / "tuned", "--device", "cpu")
    # Without a step that moves anything, the weights stay those of the other run.
    answer = run_command(train, *asked, "--init", run, "--epochs", 1, "--lr", 1e-12, "--json")
    assert answer.exit_code == 0, answer.stderr
    before, after = (RunFolder(each).load_model() for each in (run, tmp_path / "tuned"))
    assert after.config.width == 16
    for name, tensor in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], tensor, msg=name)
    record = json.loads((tmp_path / "tuned" / "config.json").read_text())["trained_on"]
    assert record["initial"]["run"] == str(run)
    again = run_command(train, *asked, "--resume", "--epochs", 2, "--json")
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["epochs"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--hidden-width", 32), "width: 16 in"),
        (("--preset", "youtube"), "strides: (1, 2, 4, 8) in"),
    ],
)
def test_weights_of_another_shape_are_refused(
    options: tuple[str | int, ...],
    message: str,
    run_command: RunCommand,
    trained: tuple[FeatureStore, Path],
    tmp_path: Path,
) -> None:
    store, run = trained
    asked = ("--store", store.location, "--out", tmp_path / "tuned", "--init", run)
    answer = run_command(train, *asked, *options)
    assert answer.exit_code == 2
    assert message in answer.stderr
    assert not (tmp_path / "tuned").exists()


def test_features_of_another_clip_and_folders_without_a_run_are_refused(
    run_command: RunCommand, trained: tuple[FeatureStore, Path], tmp_path: Path
) -> None:
    store, run = trained
    other = tmp_path / "other"
    other.mkdir()
    for path in run.glob("*.*"):
        if path.is_file():
            (other / path.name).write_bytes(path.read_bytes())
    config = (other / "config.json").read_text()
    (other / "config.json").write_text(config.replace("0" * 64, "1" * 64))
    asked = ("--store", store.location, "--out", tmp_path / "tuned")
    refused = run_command(train, *asked, "--init", other)
    assert refused.exit_code == 2
    assert "weights_sha256" in refused.stderr
    refused = run_command(train, *asked, "--init", tmp_path)
    assert refused.exit_code == 2
    assert "holds no training run" in refused.stderr
