"""A training that was interrupted and resumed ends in the bits of one that was not.

Two trainings that run through tell first whether any two end in the same bits.
"""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from gpu_check.infinity import train_config
from gpu_check.inputs import store_path
from gpu_check.report import Report
from gpu_check.setting import Setting
from r2t.store import FeatureStore
from r2t.store.progress import OnProgress
from r2t.train.choices import Precision
from r2t.train.run.run_folder import RunFolder
from r2t.train.training.execution import Execution
from r2t.train.training.fit import Splits, train_model

EPOCHS = 2


def run(setting: Setting, report: Report) -> None:
    """Train in each precision: twice, and once with a break in the second epoch."""
    precisions: tuple[Precision, ...] = get_args(Precision)
    for precision in precisions if setting.on_gpu else precisions[:1]:  # all alike on a CPU
        report.verify(precision, lambda p=precision: _train(setting, report, p), seconds=5)


def _train(setting: Setting, report: Report, precision: Precision) -> None:
    whole = _fit(setting, precision, "whole")
    again = _fit(setting, precision, "again")
    _compare(report, f"{precision}: run twice", again, whole)
    interrupted = False
    try:
        _fit(setting, precision, "broken", at=(1, 1))
    except KeyboardInterrupt:
        interrupted = True
    report.check(
        f"{precision}: interrupted",
        "in the second epoch, with its state saved" if interrupted else "it ran through",
        holds=interrupted,
    )
    torch.manual_seed(12345)  # another process would not have this one's generator either
    resumed = _fit(setting, precision, "broken", resume=True)
    _compare(report, f"{precision}: resumed", resumed, whole)


def _fit(
    setting: Setting,
    precision: Precision,
    name: str,
    *,
    at: tuple[int, int] | None = None,
    resume: bool = False,
) -> RunFolder:
    """Train; after step `at`, of an epoch and of how many of it are done, ask to stop."""
    store = FeatureStore.open(store_path(setting.folder, "float16"))
    config = replace(
        train_config(setting, precision),
        epochs=EPOCHS,
        repeats=1,
        batch_size=setting.sizes.ring_batch,
    )
    splits = Splits(store.annotations("train"), store.annotations("val"), held_out=False)
    epochs_done: list[object] = []
    execution = Execution(
        device=setting.device,
        resume=resume,
        on_step=_stop(at, epochs_done),
        on_epoch=epochs_done.append,
    )
    return train_model(
        config, store, splits, _folder(setting, precision, name), execution=execution
    )


def _stop(at: tuple[int, int] | None, epochs_done: list[object]) -> OnProgress:
    def on_step(done: float, total: float) -> None:
        if at == (len(epochs_done), done):
            signal.raise_signal(signal.SIGINT)

    return on_step


def _folder(setting: Setting, precision: Precision, name: str) -> Path:
    return setting.folder / f"run-{precision}-{name}"


def _compare(report: Report, name: str, found: RunFolder, expected: RunFolder) -> None:
    """Compare weights, and the state that a next epoch would begin with."""
    mine, truth = _tensors(found), _tensors(expected)
    differing = [key for key in truth if key not in mine or not torch.equal(mine[key], truth[key])]
    differing += [key for key in mine if key not in truth]
    text = f"{len(truth)} tensors, bit for bit"
    if differing:
        text = f"{len(differing)} of {len(truth)} tensors differ, such as {differing[0]}"
    report.check(name, text, holds=not differing)


def _tensors(folder: RunFolder) -> dict[str, Tensor]:
    weights = folder.load_model("last").state_dict()
    state, _ = folder.load_state()
    return {**{f"last/{key}": value for key, value in weights.items()}, **state}
