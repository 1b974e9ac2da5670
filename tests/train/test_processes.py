"""Two processes train as one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file
from tiny_store import make_store, undisturbed_config

from r2t.store import FeatureStore
from r2t.train.conduct import Conduct
from r2t.train.fit import fit, split_annotations

TESTS = Path(__file__).parent.parent
LOSS_TOLERANCE = 1e-5  # relative: sums are taken in another order
SCORE_TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("processes") / "feats.zarr")


@pytest.fixture(scope="module")
def alone(store: FeatureStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes") / "alone"
    fit(undisturbed_config(store), store, split_annotations(store), folder)
    return folder


def launch(store: FeatureStore, folder: Path, stop_after: int = 0) -> None:
    """Train in two processes with torchrun; the last may be asked to stop."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        str(TESTS / "train" / "parallel_run.py"), store.location, str(folder), str(stop_after),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same(run: Path, expected: Path) -> None:
    assert len(lines(run)) == len(lines(expected)) == 3
    for ours, theirs in zip(lines(run), lines(expected), strict=True):
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=LOSS_TOLERANCE)
        assert ours["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=1e-4)
        assert ours["metrics"] == pytest.approx(theirs["metrics"], abs=SCORE_TOLERANCE)
    names = ("best.safetensors", "last.safetensors", "state.safetensors", "config.json")
    assert all((run / name).is_file() for name in names)


def test_two_processes_have_the_losses_of_one(
    store: FeatureStore, alone: Path, tmp_path: Path
) -> None:
    launch(store, tmp_path / "run")
    assert_same(tmp_path / "run", alone)
    samples = [line["timing"]["samples_per_second"] for line in lines(tmp_path / "run")]
    assert all(value > 0 for value in samples)


def test_one_process_goes_on_where_two_were_stopped(
    store: FeatureStore, alone: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    launch(store, run, stop_after=3)  # of two steps an epoch
    assert len(lines(run)) == 1
    assert {"random/0/cpu", "random/1/cpu"} <= load_file(run / "state.safetensors").keys()
    conduct = Conduct(resume=True)
    fit(undisturbed_config(store), store, split_annotations(store), run, conduct=conduct)
    assert_same(run, alone)
