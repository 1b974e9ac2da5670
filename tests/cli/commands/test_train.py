"""`r2t train` from the shell: settings, held-out videos, resuming, refusals."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from r2t.cli.commands.train import progress as train_run
from r2t.cli.commands.train.train import train
from r2t.store import FeatureStore
from r2t.train.data import ChosenCache

TINY = ("--hidden-width", 16, "--batch-size", 8, "--device", "cpu")
RunCommand = Callable[..., Result]


@pytest.fixture
def store(make_store: Callable[..., FeatureStore], tmp_path: Path) -> Path:
    make_store(tmp_path / "feats.zarr")
    return tmp_path / "feats.zarr"


def config(run: Path) -> dict[str, Any]:
    return json.loads((run / "config.json").read_text())["config"]


def test_a_run_takes_its_settings_and_reports_each_epoch(
    run_command: RunCommand, store: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    answer = run_command(
        train, "--store", store, "--out", run, *TINY, "--epochs", 2, "--preset", "charades",
        "--recipe", "official", "--lr", 0.002, "--seed", 7, "--json",
    )  # fmt: skip
    assert answer.exit_code == 0
    settings = config(run)
    assert (settings["preset"], settings["losses"]["recipe"]) == ("charades", "official")
    assert (settings["epochs"], settings["batch_size"], settings["seed"]) == (2, 8, 7)
    assert settings["model"]["width"] == 16
    assert settings["model"]["vision_width"] == 16
    assert settings["schedule"]["learning_rate"] == 0.002
    result = json.loads(answer.stdout)
    assert result["run"] == str(run)
    assert result["epochs"] == 2
    assert "MR-full-mAP" in result["metrics"]
    notes = answer.stderr
    assert [line[:9] for line in notes.splitlines() if line.startswith("epoch ")] == [
        "epoch 1/2",
        "epoch 2/2",
    ]
    assert "loss " in notes
    assert "held out" not in notes  # the store has a val split
    assert "features stay" not in notes  # on a CPU they are read from the disk's memory anyway
    assert "read anew" not in notes
    assert "preset charades is for features at --fps 1.0, the store has 0.5" in notes
    assert (run / "best.safetensors").is_file()


def test_a_run_on_a_remote_store_keeps_what_it_moved(
    run_command: RunCommand, store: Path, tmp_path: Path
) -> None:
    command = (
        "--store",
        f"file://{store}",
        *TINY,
        "--epochs",
        1,
        "--disk-cache",
        tmp_path / "kept",
        "--cache",
        "ram",
    )
    answer = run_command(train, *command, "--out", tmp_path / "run", "--disk-cache-size", "0.02MB")
    assert answer.exit_code == 0, answer.stderr
    kept = [file.stat().st_size for file in (tmp_path / "kept").glob("?" * 64)]
    assert 0 < sum(kept) <= 20_000
    assert "features stay in memory once they are read: they take up to" in answer.stderr
    answer = run_command(train, *command, "--out", tmp_path / "run2", "--disk-cache-size", "lots")
    assert answer.exit_code == 2
    assert "such as 500MB" in answer.stderr


def test_where_a_gpu_has_no_room_for_the_features_that_is_said() -> None:
    assert train_run.cache_line(ChosenCache(None, 82 * 10**9, 50 * 10**9)) == (
        "features are read anew in every pass: they take up to 82 GB, and 50 GB of the GPU's "
        "memory may be used for them"
    )
    assert train_run.cache_line(ChosenCache(None, 82 * 10**9, 0)) == ""


def test_a_run_goes_on_in_its_own_settings(
    run_command: RunCommand, store: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    start = ("--store", store, "--out", run, "--device", "cpu")
    first = run_command(train, *start, *TINY, "--epochs", 1, "--preset", "tacos")
    assert first.exit_code == 0
    refused = run_command(train, *start, *TINY, "--epochs", 1, "--preset", "tacos")
    assert refused.exit_code == 2
    assert "already holds a training run: it is finished; resume it with more" in refused.stderr
    other = run_command(train, *start, "--resume", "--recipe", "official")
    assert other.exit_code == 2
    assert "started with recipe 'paper'" in other.stderr
    resumed = run_command(train, *start, "--resume", "--epochs", 3)
    assert resumed.exit_code == 0
    assert config(run)["preset"] == "tacos"
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1, 2]


def test_own_data_set_warm_up_and_rounding_and_that_is_said(
    run_command: RunCommand, store: Path, tmp_path: Path
) -> None:
    command = (train, "--store", store, *TINY, "--epochs", 3)
    answer = run_command(*command, "--out", tmp_path / "own")
    assert answer.exit_code == 0, answer.stderr
    assert "training own data, paper recipe" in answer.stderr
    assert (
        "12 iterations; the learning rate rises to 0.0005 over 1 of them (8%); it is multiplied by "
        "0.1 from epoch 3; moments are rounded to 2 s; these follow your data"
    ) in answer.stderr
    assert "warning" not in answer.stderr
    settings = config(tmp_path / "own")
    assert settings["preset"] == "own"
    assert (settings["schedule"]["warmup_iterations"], settings["schedule"]["step_epochs"]) == (
        1,
        [2],
    )
    given = ("--warmup", 3, "--set", "decoding.unit_seconds=0.5", "--epochs", 1)
    assert run_command(*command, *given, "--out", tmp_path / "given").exit_code == 0
    settings = config(tmp_path / "given")
    assert settings["schedule"]["warmup_iterations"] == 3
    assert settings["decoding"]["unit_seconds"] == 0.5


def test_a_datasets_preset_on_little_data_is_warned_of(
    run_command: RunCommand, store: Path, tmp_path: Path
) -> None:
    command = (train, "--store", store, *TINY, "--epochs", 1, "--preset", "qvhighlights")
    coarse = ("--set", "decoding.unit_seconds=4", "--out", tmp_path / "run")
    answer = run_command(*command, *coarse)
    assert answer.exit_code == 0, answer.stderr
    assert config(tmp_path / "run")["schedule"]["warmup_iterations"] == 500
    assert (
        "the warm-up of 500 iterations takes more than half of the run's 4, whose last learning "
        "rate is 3.5e-06 of 0.0005: give a shorter --warmup"
    ) in answer.stderr
    assert "rounded to 4 s, but the store has a frame every 2 s" in answer.stderr


def test_there_must_be_a_run_to_go_on_with(
    run_command: RunCommand, store: Path, tmp_path: Path
) -> None:
    answer = run_command(train, "--store", store, "--out", tmp_path / "typo", "--resume")
    assert answer.exit_code == 2
    assert "no run to resume" in answer.stderr
    assert not (tmp_path / "typo").exists()


@pytest.mark.filterwarnings("default::r2t.store.errors.RunWarning")
def test_a_run_that_lost_a_line_of_its_metrics_says_so_and_ends(
    run_command: RunCommand, store: Path, tmp_path: Path
) -> None:
    start = (train, "--store", store, "--out", tmp_path / "run", "--device", "cpu")
    assert run_command(*start, *TINY, "--epochs", 1).exit_code == 0
    path = tmp_path / "run" / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:40])
    answer = run_command(*start, "--resume", "--json")
    assert answer.exit_code == 0, answer.stderr
    assert "lacks the figures of epoch 1" in answer.stderr
    result = json.loads(answer.stdout)
    assert (result["epochs"], result["best_epoch"], result["metrics"]) == (0, None, {})


def test_the_same_command_goes_on_with_an_interrupted_run(
    run_command: RunCommand, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe = train_run.epoch_line

    def asked_to_stop(*values: Any) -> str:
        signal.raise_signal(signal.SIGTERM)
        return describe(*values)

    run = tmp_path / "run"
    command = (train, "--store", store, *TINY, "--epochs", 3, "--batch-size", 2)
    with monkeypatch.context() as patch:
        patch.setattr(train_run, "epoch_line", asked_to_stop)
        answer = run_command(*command, "--out", run)
    assert answer.exit_code == 130
    assert f"to continue, run the same command with --out {run}" in answer.stderr
    other = run_command(*command, "--out", run, "--seed", 1)
    assert other.exit_code == 2
    assert "seed: 0 before, 1 now" in other.stderr
    answer = run_command(*command, "--out", run, "--profile")
    assert answer.exit_code == 0
    assert f"continuing the unfinished run in {run}" in answer.stderr
    assert [line[:9] for line in answer.stderr.splitlines() if line.startswith("epoch ")] == [
        "epoch 2/3",
        "epoch 3/3",
    ]
    assert json.loads((run / "trace.json").read_text())["traceEvents"]
    run_command(*command, "--out", tmp_path / "whole")
    weights = [(folder / "last.safetensors").read_bytes() for folder in (run, tmp_path / "whole")]
    assert weights[0] == weights[1]


def test_without_a_val_split_videos_are_held_out_and_that_is_said(
    run_command: RunCommand,
    make_store: Callable[..., FeatureStore],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_store(tmp_path / "feats.zarr")
    everything = FeatureStore.annotations

    def no_val(self: FeatureStore, split: str | None = None, domain: str | None = None) -> Any:
        return [] if split == "val" else everything(self, split, domain)

    monkeypatch.setattr(FeatureStore, "annotations", no_val)
    command = ("--store", tmp_path / "feats.zarr", *TINY, "--epochs", 1)
    held = run_command(train, *command, "--out", tmp_path / "a", "--val-fraction", 0.5)
    assert held.exit_code == 0
    assert "held out, drawn with seed 0: 2 of 4 (4 queries)" in held.stderr
    none = run_command(train, *command, "--out", tmp_path / "b", "--val-fraction", 0)
    assert none.exit_code == 0
    assert "no validation" in none.stderr
    assert "8 queries of 4 videos" in none.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--resume",), "needs --out"),
        (("--hidden-width", 20), "--hidden-width 20 and num_heads = 8: the width must be"),
        (("--lr", 0), "--lr 0.0: must be in (0, 1]"),
        (("--warmup", -1), "--warmup -1: must not be negative"),
        (("--device", "abacus"), "this machine has auto, cpu"),
        (("--buffer-gb", 0), "--buffer-gb 0.0: must be positive"),
        (("--cache", "gpu", "--device", "cpu"), "use ram"),
        (("--domain", "dog"), "no query to train on in domain 'dog'"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    options: tuple[Any, ...],
    message: str,
    run_command: RunCommand,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run_command(train, "--store", store, *options)
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert message in answer.stderr.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


def test_any_setting_can_be_given_by_name(
    run_command: RunCommand, store: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    given = ("model.direction=forward", "model.shared_weights=false", "losses.layer_weight=0")
    sets = [part for each in given for part in ("--set", each)]
    answer = run_command(train, "--store", store, "--out", run, *TINY, "--epochs", 1, *sets)
    assert answer.exit_code == 0
    settings = config(run)
    assert settings["model"]["direction"] == "forward"
    assert settings["model"]["shared_weights"] is False
    assert settings["losses"]["layer_weight"] == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("model.direction", "give NAME=VALUE; names are preset, evaluator, model.num_layers"),
        ("model=1", "give NAME=VALUE"),
        ("model.depth=1", "give NAME=VALUE"),
        ("seed.model=1", "give NAME=VALUE"),
        ("model.direction=sideways", "direction"),
        ("epochs=many", "epochs"),
        ("model.width=0", "error: --set model.width = 0: must be"),
        ("model.num_layers=3", "the store has"),
    ],
)
def test_settings_that_do_not_exist_or_fit(
    given: str, message: str, run_command: RunCommand, store: Path, tmp_path: Path
) -> None:
    answer = run_command(train, "--store", store, "--out", tmp_path / "run", "--set", given)
    assert answer.exit_code == 2
    assert message in answer.stderr.replace("\n", " ")
