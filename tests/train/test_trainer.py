"""Training runs: determinism, exact resume, what a run folder holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from r2t.store.errors import ConfigError
from r2t.train.batch import Batch, Sample, collate
from r2t.train.checkpoint import RunFolder, write_atomically
from r2t.train.config import TrainConfig
from r2t.train.model import R2Config, R2Model
from r2t.train.presets import preset
from r2t.train.trainer import EpochRecord, Evaluation, TrainingError, train


class Shuffled:
    """Batches of two in an order drawn from the pass number; can be interrupted in a pass."""

    def __init__(self, samples: list[Sample], interrupt_at: tuple[int, int] | None = None) -> None:
        self.samples = samples
        self.interrupt_at = interrupt_at
        self.passes: list[int] = []

    def __len__(self) -> int:
        return len(self.samples) // 2

    def epoch(self, number: int) -> Iterator[Batch]:
        self.passes.append(number)
        order = np.random.default_rng(number).permutation(len(self.samples))
        for index, pair in enumerate(order.reshape(-1, 2)):
            if (number, index) == self.interrupt_at:
                raise KeyboardInterrupt
            yield collate([self.samples[i] for i in pair])


@pytest.fixture
def samples(make_sample: Callable[..., Sample]) -> list[Sample]:
    return [make_sample(6 + seed, 3 + seed % 3, seed=seed) for seed in range(6)]


@pytest.fixture
def config(tiny_config: R2Config) -> TrainConfig:
    settings = preset("qvhighlights").train_config()
    return replace(
        settings,
        model=replace(tiny_config, dropout=0.5, drop_path=0.1),
        schedule=replace(settings.schedule, warmup_iterations=4, step_epochs=(2,)),
        epochs=4,
        repeats=1,
        batch_size=2,
        seed=3,
    )


def weights(folder: RunFolder, name: Any = "last") -> dict[str, torch.Tensor]:
    return folder.load_model(name).state_dict()


def assert_same(ours: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


def lines(folder: RunFolder) -> list[dict[str, Any]]:
    text = (folder.path / "metrics.jsonl").read_text()
    records = [json.loads(line) for line in text.splitlines()]
    for record in records:
        record.pop("seconds")
    return records


def mean_score(model: R2Model) -> Evaluation:
    assert not model.training
    score = float(model.word_pooling.score.weight.sum())
    return Evaluation(score, {"weight": score})


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_an_interrupted_run_ends_in_the_same_weights(
    ema_decay: float | None, config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    config = replace(config, ema_decay=ema_decay)
    whole = train(config, Shuffled(samples), tmp_path / "whole", evaluate=mean_score)
    broken = Shuffled(samples, interrupt_at=(2, 1))
    with pytest.raises(KeyboardInterrupt):
        train(config, broken, tmp_path / "broken", evaluate=mean_score)
    torch.manual_seed(12345)  # another process would not have our generator either
    rest = Shuffled(samples)
    resumed = train(config, rest, tmp_path / "broken", evaluate=mean_score, resume=True)
    assert rest.passes == [2, 3]
    assert_same(weights(resumed), weights(whole))
    assert_same(weights(resumed, "best"), weights(whole, "best"))
    assert lines(resumed) == lines(whole)
    assert len(lines(whole)) == 4
    assert_same(whole.load_state()[0], resumed.load_state()[0])


def test_the_seed_decides_the_weights(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    runs = [
        train(replace(config, seed=seed, epochs=1), Shuffled(samples), tmp_path / str(index))
        for index, seed in enumerate((3, 3, 4))
    ]
    assert_same(weights(runs[0]), weights(runs[1]))
    with pytest.raises(AssertionError):
        assert_same(weights(runs[0]), weights(runs[2]))


def test_a_run_interrupted_before_its_first_epoch_ends_resumes_from_the_start(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    config = replace(config, epochs=1)
    with pytest.raises(KeyboardInterrupt):
        train(config, Shuffled(samples, interrupt_at=(0, 1)), tmp_path / "run")
    resumed = train(config, Shuffled(samples), tmp_path / "run", resume=True)
    whole = train(config, Shuffled(samples), tmp_path / "whole")
    assert_same(weights(resumed), weights(whole))


def test_lines_of_unfinished_epochs_are_dropped_on_resume(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    folder = train(replace(config, epochs=2), Shuffled(samples), tmp_path / "run")
    folder.append_metrics({"epoch": 2, "losses": "of an epoch whose state was never written"})
    folder = train(replace(config, epochs=3), Shuffled(samples), tmp_path / "run", resume=True)
    assert [line["epoch"] for line in lines(folder)] == [0, 1, 2]


def test_training_learns(config: TrainConfig, samples: list[Sample], tmp_path: Path) -> None:
    model = replace(config.model, dropout=0.0, drop_path=0.0)
    schedule = replace(config.schedule, learning_rate=2e-3, step_epochs=())
    config = replace(config, model=model, schedule=schedule, epochs=12)
    folder = train(config, Shuffled(samples), tmp_path / "run")
    totals = [line["losses"]["total"] for line in lines(folder)]
    assert totals[-1] < 0.8 * totals[0]


def test_repeats_are_passes_of_one_epoch(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    source = Shuffled(samples)
    records: list[EpochRecord] = []
    config = replace(config, epochs=3, repeats=2)
    train(config, source, tmp_path / "run", on_epoch=records.append)
    assert source.passes == [0, 1, 2, 3, 4, 5]
    assert [record.iteration for record in records] == [6, 12, 18]
    base = config.schedule.learning_rate
    rates = [record.learning_rate for record in records]
    assert rates == pytest.approx([base, base, 0.1 * base])


def test_patience_stops_and_best_weights_are_kept(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    scores = iter([0.1, 0.5, 0.4, 0.3, 0.9])
    snapshots: list[dict[str, torch.Tensor]] = []

    def evaluate(model: R2Model) -> Evaluation:
        snapshots.append({name: value.clone() for name, value in model.state_dict().items()})
        return Evaluation(next(scores))

    config = replace(config, epochs=5, patience=2)
    folder = train(config, Shuffled(samples), tmp_path / "run", evaluate=evaluate)
    assert [line["score"] for line in lines(folder)] == [0.1, 0.5, 0.4, 0.3]
    assert [line["is_best"] for line in lines(folder)] == [True, True, False, False]
    assert_same(weights(folder, "best"), snapshots[1])
    assert_same(weights(folder, "last"), snapshots[3])


def test_averaged_weights_trail_the_trained_ones(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    config = replace(config, epochs=1, ema_decay=0.5)
    folder = train(config, Shuffled(samples), tmp_path / "averaged")
    plain = train(replace(config, ema_decay=None), Shuffled(samples), tmp_path / "plain")
    tensors, _ = folder.load_state()
    assert_same({n: tensors[f"model/{n}"] for n in weights(plain)}, weights(plain))
    name = "class_head.hidden.weight"
    assert not torch.equal(weights(folder)[name], weights(plain)[name])
    assert torch.equal(weights(folder)[name], tensors[f"averaged/{name}"])


def test_what_a_run_folder_holds(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    config = replace(config, epochs=1)
    folder = train(config, Shuffled(samples), tmp_path / "run", trained_on={"digest": "sha256:0"})
    names = {path.name for path in folder.path.iterdir()}
    files = {"best.safetensors", "last.safetensors", "state.safetensors"}
    assert names == {*files, "config.json", "metrics.jsonl", "tensorboard"}
    assert any((folder.path / "tensorboard").iterdir())
    assert RunFolder(folder.path).load_config() == (config, {"digest": "sha256:0"})
    assert set(json.loads((folder.path / "config.json").read_text())) == {
        "r2t_version",
        "config",
        "trained_on",
    }


def test_a_run_is_not_overwritten_nor_resumed_as_another(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    config = replace(config, epochs=1)
    source = Shuffled(samples)
    train(config, source, tmp_path / "run", trained_on={"digest": "a"})
    with pytest.raises(ConfigError, match="already holds a training run"):
        train(config, source, tmp_path / "run", trained_on={"digest": "a"})
    other = replace(config, seed=4)
    with pytest.raises(ConfigError, match="seed: 3 before, 4 now"):
        train(other, source, tmp_path / "run", trained_on={"digest": "a"}, resume=True)
    with pytest.raises(ConfigError, match=r"trained_on: .*'a'.* before"):
        train(config, source, tmp_path / "run", trained_on={"digest": "b"}, resume=True)
    assert source.passes == [0]


def test_nothing_to_train_on_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no samples"):
        train(config, Shuffled([]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unlabelled_batches_are_refused(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    unlabelled = [replace(sample, labels=None) for sample in samples]
    with pytest.raises(ConfigError, match="training needs labels"):
        train(config, Shuffled(unlabelled), tmp_path / "run")


def test_a_loss_that_is_no_number_ends_the_run(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    samples[0].video[:] = float("inf")
    with pytest.raises(TrainingError, match="the loss became nan in epoch 0"):
        train(config, Shuffled(samples), tmp_path / "run")
    assert not RunFolder(tmp_path / "run").has_state()


def test_damaged_run_folders_are_refused(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="holds no training run"):
        RunFolder(tmp_path).load_model()
    folder = train(replace(config, epochs=1), Shuffled(samples), tmp_path / "run")
    for name, load in (("best", folder.load_model), ("state", folder.load_state)):
        path = folder.path / f"{name}.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(ConfigError, match=rf"{name}\.safetensors"):
            load()


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    write_atomically(path, b"old")

    def no_space(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["weights"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_resume_is_exact_on_a_gpu(
    precision: Any, config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    config = replace(config, precision=precision)
    whole = train(config, Shuffled(samples), tmp_path / "whole", device="cuda")
    broken = Shuffled(samples, interrupt_at=(2, 1))
    with pytest.raises(KeyboardInterrupt):
        train(config, broken, tmp_path / "broken", device="cuda")
    resumed = train(config, Shuffled(samples), tmp_path / "broken", device="cuda", resume=True)
    for name, expected in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], expected, rtol=1e-4, atol=1e-5)
