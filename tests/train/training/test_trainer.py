"""Training runs: determinism, exact resume, what a run folder holds."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from r2t.store.errors import ConfigError, RunWarning
from r2t.train.data.batch import Batch, Sample, collate
from r2t.train.model.config import R2Config
from r2t.train.model.model import R2Model
from r2t.train.run.config import TrainConfig
from r2t.train.run.presets import find_preset
from r2t.train.run.records import EpochRecord, ValidationScore
from r2t.train.run.run_folder import RunFolder
from r2t.train.run.trained_on import TrainedOn
from r2t.train.training.execution import Execution
from r2t.train.training.optimizer import Optimizer
from r2t.train.training.processes import Processes
from r2t.train.training.state import EpochTally
from r2t.train.training.trainer import TrainingError, train_on_batches


class Shuffled:
    """Batches of two in an order drawn from the epoch's number.

    Before batch `at` of an epoch, `stop` is called: to raise, or to send a signal.
    """

    def __init__(
        self,
        samples: list[Sample],
        at: tuple[int, int] | None = None,
        stop: Callable[[], None] | None = None,
    ) -> None:
        self.samples = samples
        self.at = at
        self.stop = stop
        self.starts: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.samples) // 2

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        self.starts.append((number, start))
        order = np.random.default_rng(number).permutation(len(self.samples))
        for index, pair in list(enumerate(order.reshape(-1, 2)))[start:]:
            if (number, index) == self.at and self.stop is not None:
                self.stop()
            yield collate([self.samples[i] for i in pair])


def killed() -> None:
    raise ConnectionError


RESUME = Execution(resume=True)


@pytest.fixture
def samples(make_sample: Callable[..., Sample]) -> list[Sample]:
    return [make_sample(6 + seed, 3 + seed % 3, seed=seed) for seed in range(6)]


@pytest.fixture
def config(tiny_config: R2Config) -> TrainConfig:
    settings = find_preset("qvhighlights").train_config()
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
        assert record.pop("seconds") > 0
        assert record.pop("timing")["bottleneck"] in ("reading", "model", "validation")
        assert record.pop("look") in ("tiled", None)  # None: what was resumed had no step left
    return records


def mean_score(model: R2Model) -> ValidationScore:
    assert not model.training
    score = float(model.word_pooling.score.weight.sum())
    return ValidationScore(score, {"weight": score})


@pytest.mark.parametrize(("number", "ema_decay"), [(signal.SIGINT, None), (signal.SIGTERM, 0.9)])
def test_a_run_asked_to_stop_ends_in_the_same_weights(
    number: int,
    ema_decay: float | None,
    config: TrainConfig,
    samples: list[Sample],
    tmp_path: Path,
) -> None:
    config = replace(config, ema_decay=ema_decay)
    whole = train_on_batches(config, Shuffled(samples), tmp_path / "whole", evaluate=mean_score)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    asked = Shuffled(samples, at=(2, 1), stop=lambda: signal.raise_signal(number))
    with pytest.raises(KeyboardInterrupt):
        train_on_batches(config, asked, tmp_path / "broken", evaluate=mean_score)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    torch.manual_seed(12345)  # another process would not have our generator either
    rest = Shuffled(samples)
    resumed = train_on_batches(
        config, rest, tmp_path / "broken", evaluate=mean_score, execution=RESUME
    )
    assert rest.starts == [(2, 2), (3, 0)]
    assert_same_runs(resumed, whole)


def assert_same_runs(resumed: RunFolder, whole: RunFolder) -> None:
    assert_same(weights(resumed), weights(whole))
    assert_same(weights(resumed, "best"), weights(whole, "best"))
    assert lines(resumed) == lines(whole)
    assert len(lines(whole)) == 4
    assert_same(whole.load_state()[0], resumed.load_state()[0])


@pytest.mark.parametrize(("minutes", "start"), [(15, (2, 0)), (0, (2, 1))])
def test_a_killed_run_goes_on_from_its_last_state(
    minutes: float,
    start: tuple[int, int],
    config: TrainConfig,
    samples: list[Sample],
    tmp_path: Path,
) -> None:
    whole = train_on_batches(config, Shuffled(samples), tmp_path / "whole", evaluate=mean_score)
    execution = Execution(checkpoint_minutes=minutes)
    broken = Shuffled(samples, at=(2, 1), stop=killed)
    with pytest.raises(ConnectionError):
        train_on_batches(
            config, broken, tmp_path / "broken", evaluate=mean_score, execution=execution
        )
    torch.manual_seed(12345)
    rest = Shuffled(samples)
    resumed = train_on_batches(
        config, rest, tmp_path / "broken", evaluate=mean_score, execution=RESUME
    )
    assert rest.starts[0] == start
    assert_same_runs(resumed, whole)


def test_a_validation_broken_off_is_done_again(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    whole = train_on_batches(config, Shuffled(samples), tmp_path / "whole", evaluate=mean_score)
    calls = itertools.count()

    def interrupted(model: R2Model) -> ValidationScore:
        if next(calls) == 1:
            signal.raise_signal(signal.SIGTERM)
        return mean_score(model)

    with pytest.raises(KeyboardInterrupt):
        train_on_batches(config, Shuffled(samples), tmp_path / "broken", evaluate=interrupted)
    rest = Shuffled(samples)
    resumed = train_on_batches(
        config, rest, tmp_path / "broken", evaluate=mean_score, execution=RESUME
    )
    assert rest.starts == [(1, 3), (2, 0), (3, 0)]
    assert_same_runs(resumed, whole)


def test_the_seed_decides_the_weights(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    runs = [
        train_on_batches(
            replace(config, seed=seed, epochs=1), Shuffled(samples), tmp_path / str(index)
        )
        for index, seed in enumerate((3, 3, 4))
    ]
    assert_same(weights(runs[0]), weights(runs[1]))
    with pytest.raises(AssertionError):
        assert_same(weights(runs[0]), weights(runs[2]))


def test_a_run_interrupted_before_its_first_epoch_ends_resumes_from_the_start(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    config = replace(config, epochs=1)
    with pytest.raises(ConnectionError):
        train_on_batches(config, Shuffled(samples, at=(0, 1), stop=killed), tmp_path / "run")
    resumed = train_on_batches(config, Shuffled(samples), tmp_path / "run", execution=RESUME)
    whole = train_on_batches(config, Shuffled(samples), tmp_path / "whole")
    assert_same(weights(resumed), weights(whole))


def test_lines_of_unfinished_epochs_are_dropped_on_resume(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    folder = train_on_batches(replace(config, epochs=2), Shuffled(samples), tmp_path / "run")
    folder.append_metrics({"epoch": 2, "losses": "of an epoch whose state was never written"})
    folder = train_on_batches(
        replace(config, epochs=3), Shuffled(samples), tmp_path / "run", execution=RESUME
    )
    assert [line["epoch"] for line in lines(folder)] == [0, 1, 2]


@pytest.mark.parametrize("damage", [b'{"epoch": 1, "los', b"\xff\x00", b"[1]", b'{"epoch": "1"}'])
def test_a_damaged_line_of_the_metrics_is_named_and_ends_nothing(
    damage: bytes, config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    folder = train_on_batches(replace(config, epochs=2), Shuffled(samples), tmp_path / "run")
    path = folder.path / "metrics.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0] + damage)
    assert [record["epoch"] for record in folder.metrics()] == [0]
    with pytest.warns(
        RunWarning, match="lacks the figures of epoch 2; the run continues without them"
    ):
        train_on_batches(
            replace(config, epochs=3), Shuffled(samples), folder.path, execution=RESUME
        )
    assert [line["epoch"] for line in lines(folder)] == [0, 2]


def test_a_state_of_another_run_is_refused(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    folder = train_on_batches(replace(config, epochs=1), Shuffled(samples), tmp_path / "run")
    tensors, counters = folder.load_state()
    for odd in (
        ({name: tensor[:1] for name, tensor in tensors.items() if tensor.ndim}, counters),
        (tensors, {**counters, "progress": {"epoch": 0, "age": 3}}),
        (tensors, {"tally": counters["tally"]}),
    ):
        folder.save_state(*odd)
        with pytest.raises(ConfigError, match=r"belongs to another run or is damaged"):
            train_on_batches(
                replace(config, epochs=2), Shuffled(samples), folder.path, execution=RESUME
            )


@pytest.mark.parametrize(
    "fault",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error: uncorrectable ECC")],
)
def test_a_state_is_not_blamed_for_what_a_gpu_does(
    fault: RuntimeError,
    config: TrainConfig,
    samples: list[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = train_on_batches(replace(config, epochs=1), Shuffled(samples), tmp_path / "run")

    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(Optimizer, "load", fail)
    with pytest.raises(type(fault), match=r"^CUDA"):
        train_on_batches(
            replace(config, epochs=2), Shuffled(samples), folder.path, execution=RESUME
        )


def test_there_must_be_a_run_to_resume(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    for folder, why in ((tmp_path / "none", "does not exist"), (tmp_path, "lacks config.json")):
        with pytest.raises(ConfigError, match=f"no run to resume in .*, which {why}"):
            train_on_batches(config, Shuffled(samples), folder, execution=RESUME)
    assert not list(tmp_path.iterdir())


def test_training_learns(config: TrainConfig, samples: list[Sample], tmp_path: Path) -> None:
    model = replace(config.model, dropout=0.0, drop_path=0.0)
    schedule = replace(config.schedule, learning_rate=2e-3, step_epochs=())
    config = replace(config, model=model, schedule=schedule, epochs=12)
    folder = train_on_batches(config, Shuffled(samples), tmp_path / "run")
    totals = [line["losses"]["total"] for line in lines(folder)]
    assert totals[-1] < 0.8 * totals[0]


def test_a_run_tells_how_far_it_is_and_where_its_time_goes(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    steps: list[tuple[float, float]] = []
    records: list[EpochRecord] = []
    execution = Execution(
        on_step=lambda done, total: steps.append((done, total)),
        on_epoch=records.append,
        trace=tmp_path / "trace.json",
    )
    config = replace(config, epochs=3)
    train_on_batches(
        config, Shuffled(samples), tmp_path / "run", evaluate=mean_score, execution=execution
    )
    assert steps == 3 * [(1, 3), (2, 3), (3, 3)]
    assert [record.iteration for record in records] == [3, 6, 9]
    base = config.schedule.learning_rate
    rates = [record.learning_rate for record in records]
    assert rates == pytest.approx([base * (0.001 + 0.999 * 2 / 4), base, 0.1 * base])
    timing = records[0].timing
    assert timing.wait_seconds > 0
    assert timing.step_seconds > 0
    assert timing.wait_seconds + timing.step_seconds <= records[0].seconds
    assert timing.samples_per_second > 0
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]


def test_the_bottleneck_is_what_takes_longest() -> None:
    for parts, name in (((3, 1, 1), "reading"), ((1, 3, 1), "model"), ((1, 1, 3), "validation")):
        tally = EpochTally(
            samples=8, read_bytes=4 * 10**9, wait_seconds=parts[0], step_seconds=parts[1]
        )
        timing = tally.timing(parts[2])
        assert timing.bottleneck == name
        assert timing.samples_per_second == 8 / (parts[0] + parts[1])
        assert timing.read_gb_per_second == 4 / (parts[0] + parts[1])


def test_patience_stops_and_best_weights_are_kept(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    scores = iter([0.1, 0.5, 0.4, 0.3, 0.9])
    snapshots: list[dict[str, torch.Tensor]] = []

    def evaluate(model: R2Model) -> ValidationScore:
        snapshots.append({name: value.clone() for name, value in model.state_dict().items()})
        return ValidationScore(next(scores))

    config = replace(config, epochs=5, patience=2)
    folder = train_on_batches(config, Shuffled(samples), tmp_path / "run", evaluate=evaluate)
    assert [line["score"] for line in lines(folder)] == [0.1, 0.5, 0.4, 0.3]
    assert [line["is_best"] for line in lines(folder)] == [True, True, False, False]
    assert_same(weights(folder, "best"), snapshots[1])
    assert_same(weights(folder, "last"), snapshots[3])


def test_averaged_weights_trail_the_trained_ones(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    config = replace(config, epochs=1, ema_decay=0.5)
    folder = train_on_batches(config, Shuffled(samples), tmp_path / "averaged")
    plain = train_on_batches(replace(config, ema_decay=None), Shuffled(samples), tmp_path / "plain")
    tensors, _ = folder.load_state()
    assert_same({n: tensors[f"model/{n}"] for n in weights(plain)}, weights(plain))
    name = "class_head.hidden.weight"
    assert not torch.equal(weights(folder)[name], weights(plain)[name])
    assert torch.equal(weights(folder)[name], tensors[f"averaged/{name}"])


def test_what_a_run_folder_holds(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    config = replace(config, epochs=1)
    trained_on = TrainedOn(content="sha256:0")
    folder = train_on_batches(config, Shuffled(samples), tmp_path / "run", trained_on=trained_on)
    names = {path.name for path in folder.path.iterdir()}
    files = {"best.safetensors", "last.safetensors", "state.safetensors"}
    assert names == {*files, "config.json", "metrics.jsonl", "tensorboard"}
    assert any((folder.path / "tensorboard").iterdir())
    assert RunFolder(folder.path).load_config() == (config, trained_on)
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
    train_on_batches(config, source, tmp_path / "run", trained_on=TrainedOn(content="a"))
    with pytest.raises(ConfigError, match="already holds a training run"):
        train_on_batches(config, source, tmp_path / "run", trained_on=TrainedOn(content="a"))
    other = replace(config, seed=4)
    with pytest.raises(ConfigError, match="seed: 3 before, 4 now"):
        train_on_batches(
            other, source, tmp_path / "run", trained_on=TrainedOn(content="a"), execution=RESUME
        )
    other = replace(config, losses=replace(config.losses, layer_weight=0.5))
    only = r"other features: losses\.layer_weight: [0-9.]+ before, 0\.5 now$"
    with pytest.raises(ConfigError, match=only):  # of a record only what differs
        train_on_batches(
            other, source, tmp_path / "run", trained_on=TrainedOn(content="a"), execution=RESUME
        )
    with pytest.raises(ConfigError, match=r"store has changed.*not known.*--allow-changed"):
        train_on_batches(
            config, source, tmp_path / "run", trained_on=TrainedOn(content="b"), execution=RESUME
        )
    assert source.starts == [(0, 0)]


def test_nothing_to_train_on_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no samples"):
        train_on_batches(config, Shuffled([]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unlabelled_batches_are_refused(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    unlabelled = [replace(sample, labels=None) for sample in samples]
    with pytest.raises(ConfigError, match="training needs labels"):
        train_on_batches(config, Shuffled(unlabelled), tmp_path / "run")


def test_a_loss_that_is_no_number_ends_the_run(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    samples[0].video[:] = float("inf")
    with pytest.raises(TrainingError, match="the loss became nan in epoch 0"):
        train_on_batches(config, Shuffled(samples), tmp_path / "run")
    assert not RunFolder(tmp_path / "run").has_state()


@dataclass(frozen=True)
class Overflowing(Processes):
    """One process, whose second and third steps have a gradient that is infinite."""

    steps: Iterator[int] = field(default_factory=itertools.count)

    def sum_gradients(self, parameters: Iterable[torch.Tensor]) -> None:
        gradient = next(p.grad for p in parameters if p.grad is not None)
        if next(self.steps) in (1, 2):
            gradient.view(-1)[0] = float("inf")


def test_steps_that_overflow_change_nothing_and_are_counted(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    config = replace(config, epochs=1, ema_decay=0.5)
    execution = Execution(processes=Overflowing())
    whole = train_on_batches(config, Shuffled(samples), tmp_path / "whole", execution=execution)
    [line] = lines(whole)
    assert line["skipped_steps"] == 2
    assert 0 < line["gradient_norm"] < float("inf")

    asked = Shuffled(samples, at=(0, 0), stop=lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train_on_batches(config, asked, tmp_path / "first")
    after, first = (RunFolder(tmp_path / name).load_state()[0] for name in ("whole", "first"))
    kept = [name for name in after if name.partition("/")[0] in ("model", "averaged", "optimizer")]
    assert len(kept) > 200
    assert all(torch.equal(after[name], first[name]) for name in kept)


def test_damaged_run_folders_are_refused(
    config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"holds no training run, it lacks config\.json; give"):
        RunFolder(tmp_path).load_model()
    with pytest.raises(ConfigError, match="holds no training run, it does not exist; give"):
        RunFolder(tmp_path / "none").load_model()
    folder = train_on_batches(replace(config, epochs=1), Shuffled(samples), tmp_path / "run")
    for name, load in (("best", folder.load_model), ("state", folder.load_state)):
        path = folder.path / f"{name}.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(ConfigError, match=rf"{name}\.safetensors"):
            load()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_resume_is_exact_on_a_gpu(
    precision: Any, config: TrainConfig, samples: list[Sample], tmp_path: Path
) -> None:
    config = replace(config, precision=precision)
    execution = Execution(device=torch.device("cuda"))
    whole = train_on_batches(config, Shuffled(samples), tmp_path / "whole", execution=execution)
    asked = Shuffled(samples, at=(2, 1), stop=lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train_on_batches(config, asked, tmp_path / "broken", execution=execution)
    execution = replace(execution, resume=True)
    resumed = train_on_batches(config, Shuffled(samples), tmp_path / "broken", execution=execution)
    assert_same(weights(resumed), weights(whole))
