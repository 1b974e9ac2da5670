"""Two processes train as one does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import torch.distributed as dist
from safetensors.numpy import load_file
from tiny_config import undisturbed_config
from toy_store import make_store

from r2t.store import FeatureStore
from r2t.store.errors import ConfigError
from r2t.store.schema import EmbeddingSpec
from r2t.train.training.execution import Execution
from r2t.train.training.fit import split_annotations, train_model
from r2t.train.training.processes import Processes, joined

TESTS = Path(__file__).parents[2]
LOSS_TOLERANCE = 1e-5  # relative: sums are taken in another order
SCORE_TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    path = tmp_path_factory.mktemp("processes") / "feats.zarr"
    return make_store(path, embedding=EmbeddingSpec(24))


@pytest.fixture(scope="module")
def alone(store: FeatureStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes") / "alone"
    train_model(undisturbed_config(store), store, split_annotations(store), folder)
    return folder


def launch(store: FeatureStore, folder: Path, stop_after: int = 0) -> None:
    """Train in two processes with torchrun; the last may be asked to stop."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        str(Path(__file__).with_name("parallel_run.py")),
        store.location, str(folder), str(stop_after),
    ]  # fmt: skip
    environment = {
        **os.environ,
        "PYTHONPATH": str(TESTS),
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(folder.parent),  # torchrun leaves its logs there
    }
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
    execution = Execution(resume=True)
    train_model(
        undisturbed_config(store), store, split_annotations(store), run, execution=execution
    )
    assert_same(run, alone)


@dataclass(frozen=True)
class Group:
    """What was asked of the process group and of CUDA."""

    backends: list[str] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Group]:
    """Pretend that this is one of two processes of a machine with so many GPUs to be seen."""

    def launch(num_visible: int, other: bytes = b"here GPU-0", local_rank: str = "1") -> Group:
        group, cuda = Group(), torch.cuda
        monkeypatch.setattr(cuda, "is_available", lambda: True)
        monkeypatch.setattr(cuda, "device_count", lambda: num_visible)
        monkeypatch.setattr(cuda, "set_device", group.chosen.append)
        uuid = SimpleNamespace(uuid="GPU-1" if local_rank else "GPU-0")
        monkeypatch.setattr(cuda, "get_device_properties", lambda _: uuid)
        monkeypatch.setattr(socket, "gethostname", lambda: "here")
        monkeypatch.setattr(dist, "init_process_group", group.backends.append)
        monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
        monkeypatch.setattr(dist, "new_group", lambda backend: Mock(dist.ProcessGroup))
        monkeypatch.setattr(dist, "get_rank", lambda: 1)
        monkeypatch.setattr(dist, "get_world_size", lambda: 2)
        monkeypatch.setattr(Processes, "gather_bytes", lambda _, own: [other, own])
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
        monkeypatch.delenv("LOCAL_RANK", raising=False)
        if local_rank:
            monkeypatch.setenv("LOCAL_RANK", local_rank)
        return group

    return launch


@pytest.mark.parametrize(("num_visible", "number"), [(2, 1), (4, 1), (1, 0)])
def test_a_process_takes_a_gpu_of_its_own_however_many_it_sees(
    num_visible: int, number: int, launched: Callable[..., Group]
) -> None:
    group = launched(num_visible)
    with joined("auto") as (processes, device):
        assert device == f"cuda:{number}"
        assert (processes.rank, processes.size, processes.on_this_machine) == (1, 2, 2)
    assert group.chosen == [number]
    assert group.backends == ["nccl"]


def test_too_few_gpus_are_refused(launched: Callable[..., Group]) -> None:
    launched(2, local_rank="2")
    with pytest.raises(ConfigError, match="process 2 of this machine has no GPU, as there are 2"):
        joined("cuda").__enter__()
    launched(1, other=b"here GPU-1")
    with pytest.raises(ConfigError, match="processes 0 and 1 have the same GPU: start as many"):
        joined("cuda").__enter__()
    launched(4, local_rank="")  # all would take the first
    with pytest.raises(ConfigError, match=r"processes 0 and 1 have the same GPU: .* LOCAL_RANK"):
        joined("cuda").__enter__()
    launched(1, other=b"there GPU-1")
    with joined("cuda") as (_, device):
        assert device == "cuda:0"
