"""The files of a run: weights, configuration and the state that an exact resume needs.

    best.safetensors, last.safetensors   weights to evaluate, under our parameter names
    config.json                          configuration, r2t version, what it was trained on
    initial.safetensors                  weights that a fine-tuned run began with
    state.safetensors                    raw weights, optimizer, random state; counters as metadata
    metrics.jsonl                        one line an epoch

A file appears whole or not at all: it is written beside its place and renamed into it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
from torch import Tensor

from r2t.store.errors import ConfigError, in_one_line
from r2t.store.files import write_whole
from r2t.train.config import TrainConfig
from r2t.train.model import R2Model

INITIAL = "initial"  # weights to begin with: a file, and its origin in the record of the features
CONFIG, STATE, METRICS = "config.json", "state.safetensors", "metrics.jsonl"
COUNTERS = "counters"  # key of the JSON text in the metadata of STATE


@dataclass(frozen=True)
class RunFolder:
    """A folder that holds one training run."""

    path: Path

    def save_config(self, config: TrainConfig, trained_on: Mapping[str, Any]) -> None:
        """Write the resolved configuration; `trained_on` describes the features, as JSON values."""
        self.path.mkdir(parents=True, exist_ok=True)
        content = {
            "r2t_version": version("r2-tuning"),
            "config": config.to_dict(),
            "trained_on": dict(trained_on),
        }
        write_whole(self.path / CONFIG, json.dumps(content, indent=2) + "\n")

    def claim(self, config: TrainConfig, trained_on: Mapping[str, Any], *, resume: bool) -> None:
        """Save the configuration, after making sure that no other run is overwritten."""
        if (self.path / CONFIG).exists():
            if not resume:
                raise ConfigError(
                    f"{self.path} already holds a training run: resume it or choose another folder"
                )
            earlier, earlier_trained_on = self.load_config()
            before = {**earlier.to_dict(), "trained_on": earlier_trained_on}
            now = {**config.to_dict(), "trained_on": json.loads(json.dumps(dict(trained_on)))}
            differing = [
                f"{name}: {before[name]!r} before, {now[name]!r} now"
                for name in now
                if before[name] != now[name] and name not in ("epochs", "patience")
            ]
            if differing:
                raise ConfigError(
                    f"cannot resume {self.path} with other settings (only epochs and patience "
                    "may change): " + "; ".join(differing)
                )
        self.save_config(config, trained_on)

    def load_config(self) -> tuple[TrainConfig, dict[str, Any]]:
        """Return the configuration and the description of the features trained on."""
        path = self.path / CONFIG
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{self.path} holds no training run: {error}; give a folder that r2t train wrote"
            ) from error
        if not isinstance(content, dict) or not {"config", "trained_on"} <= set(content):
            raise ConfigError(f"{path} was not written by r2t train: it lacks config or trained_on")
        return TrainConfig.from_dict(content["config"]), content["trained_on"]

    def save_weights(self, name: Literal["best", "last"], model: R2Model) -> None:
        """Write weights for evaluation."""
        tensors = _detached(model.state_dict())
        write_whole(self.path / f"{name}.safetensors", safetensors.torch.save(tensors))

    def load_model(self, name: Literal["best", "last"] = "best") -> R2Model:
        """Return the trained model on the CPU, in evaluation mode."""
        config, _ = self.load_config()
        path = self.path / f"{name}.safetensors"
        try:
            tensors = safetensors.torch.load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise ConfigError(f"cannot read weights from {path}: {error}") from error
        model = R2Model(config.model)
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise ConfigError(
                f"{path} does not fit {self.path / CONFIG}: {in_one_line(error)}"
            ) from error
        return model.eval()

    def load_initial(self) -> dict[str, Tensor]:
        """Return the weights that a fine-tuned run begins with."""
        path = self.path / f"{INITIAL}.safetensors"
        try:
            return safetensors.torch.load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise ConfigError(f"cannot read weights from {path}: {error}") from error

    def has_state(self) -> bool:
        """Return whether a state was saved, from which the run can go on."""
        return (self.path / STATE).exists()

    def is_unfinished(self, epochs: int, patience: int | None) -> bool:
        """Return whether a run was begun here and broken off before its last epoch."""
        if not self.has_state():
            return (self.path / CONFIG).exists() and not any(self.path.glob("*.safetensors"))
        _, counters = self.load_state()
        progress = counters["progress"]
        patient = patience is None or progress["epochs_since_best"] < patience
        return progress["epoch"] < epochs and patient

    def save_state(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Write all that a resumed run continues from."""
        metadata = {COUNTERS: json.dumps(dict(counters))}
        content = safetensors.torch.save(_detached(tensors), metadata=metadata)
        write_whole(self.path / STATE, content)

    def load_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what `save_state` wrote."""
        path = self.path / STATE
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                counters = json.loads((file.metadata() or {})[COUNTERS])
        except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
            raise ConfigError(f"{path} is damaged: {error}; start a new run") from error
        return tensors, counters

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add a line to the metrics."""
        with (self.path / METRICS).open("a") as file:
            file.write(json.dumps(dict(record)) + "\n")

    def cut_metrics(self, num_epochs: int) -> None:
        """Drop the lines of epochs that were not finished before an interruption."""
        path = self.path / METRICS
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        write_whole(path, b"".join(lines[:num_epochs]))


def take_initial(folder: RunFolder, run: Path | None, *, resume: bool) -> dict[str, Any]:
    """Copy the best weights of a run into a new one; return their origin, as it is recorded.

    A run that is resumed has them, and its record, already.
    """
    if (folder.path / CONFIG).exists():
        _, trained_on = folder.load_config()
        return {INITIAL: trained_on[INITIAL]} if resume and INITIAL in trained_on else {}
    if run is None:
        return {}
    RunFolder(run).load_model("best")  # refuses what is no run, or damaged
    content = (run / "best.safetensors").read_bytes()
    folder.path.mkdir(parents=True, exist_ok=True)
    write_whole(folder.path / f"{INITIAL}.safetensors", content)
    return {INITIAL: {"run": str(run), "sha256": hashlib.sha256(content).hexdigest()}}


def _detached(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
