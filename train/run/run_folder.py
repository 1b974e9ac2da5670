"""The files of a run: weights, configuration and the state that an exact resume needs.

    best.safetensors, last.safetensors   weights to evaluate, under our parameter names
    config.json                          configuration, r2t version, what it was trained on
    initial.safetensors                  weights that a fine-tuned run began with
    state.safetensors                    raw weights, optimizer, random state; counters as metadata
    metrics.jsonl                        one line an epoch
    store-content.json                   which videos and queries the store held

A file appears whole or not at all: it is written beside where it belongs and renamed.
"""

from __future__ import annotations

import json
import reprlib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
from torch import Tensor

from r2t.store.content import StoreContent
from r2t.store.errors import ConfigError, RunWarning
from r2t.store.files import explain, read_plain, require_plain, write_whole
from r2t.store.schema import FeatureSpec
from r2t.train.model import R2Model, shape_problems
from r2t.train.run.changed_store import FOLLOWS_CONTENT, admit_changes, save_content
from r2t.train.run.config import TrainConfig
from r2t.train.run.trained_on import TrainedOn

INITIAL = "initial.safetensors"  # weights that a fine-tuned run begins with
WEIGHTS = "best.safetensors"  # those that a run is asked with
CONFIG, STATE, METRICS_FILE = "config.json", "state.safetensors", "metrics.jsonl"
COUNTERS = "counters"  # key of the JSON text in the metadata of STATE
_MAX_RECORD_BYTES = 1 << 28  # of the configuration, or of the metrics


@dataclass(frozen=True)
class RunFolder:
    """A folder that holds one training run."""

    path: Path

    def save_config(self, config: TrainConfig, trained_on: TrainedOn) -> None:
        """Write the resolved configuration, and what the run is trained on."""
        self.path.mkdir(parents=True, exist_ok=True)
        content = {
            "r2t_version": version("r2-tuning"),
            "config": config.to_dict(),
            "trained_on": trained_on.to_dict(),
        }
        write_whole(self.path / CONFIG, json.dumps(content, indent=2) + "\n")

    def claim(
        self,
        config: TrainConfig,
        trained_on: TrainedOn,
        *,
        resume: bool,
        content: StoreContent | None = None,
        allow_changed: bool = False,
    ) -> None:
        """Save the configuration, after making sure that no other run is overwritten.

        A run that is resumed must learn the same from the same features, wherever these lie; with
        `allow_changed` their store may have changed. `content` says which videos and queries it
        holds.
        """
        if (self.path / CONFIG).exists():
            if not resume:
                mend = "resume it"
                if not self.is_unfinished(config.epochs, config.patience):
                    mend = "it is finished; resume it with more epochs"
                raise ConfigError(
                    f"{self.path} already holds a training run: {mend}, or choose another folder"
                )
            earlier = self._require_same_run(config, trained_on)
            trained_on = admit_changes(
                self.path,
                earlier,
                trained_on,
                content,
                num_epochs=len(self.metrics()),
                allow_changed=allow_changed,
            )
        elif resume:
            raise ConfigError(self.absent())
        self.save_config(config, trained_on)
        if content is not None:
            save_content(self.path, content)

    def _require_same_run(self, config: TrainConfig, trained_on: TrainedOn) -> TrainedOn:
        """Return what the run was trained on; raise if it had other settings or features."""
        earlier, earlier_trained_on = self.load_config()
        free = {"epochs", "patience"}
        if earlier_trained_on.content not in (None, trained_on.content):
            free |= FOLLOWS_CONTENT
        before = {**earlier.to_dict(), **_named(earlier_trained_on)}
        now = {**config.to_dict(), **_named(trained_on)}
        compared = [name for name in now if name in before and name not in free]
        differing = _differences(before, now, compared)
        if differing:
            raise ConfigError(
                f"cannot resume {self.path} with other settings (only epochs and patience "
                "may change; --resume keeps the run's own) or on other features: "
                + "; ".join(differing)
            )
        return earlier_trained_on

    def absent(self) -> str:
        """Say that there is no run here to resume."""
        return (
            f"there is no run to resume in {self.path}, which {self._lack()}: give the folder of a "
            "run, or start a new run without resuming"
        )

    def _lack(self) -> str:
        return f"lacks {CONFIG}" if self.path.is_dir() else "does not exist"

    def load_config(self) -> tuple[TrainConfig, TrainedOn]:
        """Return the configuration, and what the run was trained on."""
        path = self.path / CONFIG
        try:
            content = json.loads(read_plain(path, _MAX_RECORD_BYTES))
        except FileNotFoundError as error:
            raise ConfigError(
                f"{self.path} holds no training run, it {self._lack()}; give a folder that r2t "
                "train wrote"
            ) from error
        except NotADirectoryError as error:
            raise ConfigError(
                f"{self.path} is a file; give the folder that r2t train wrote"
            ) from error
        except (OSError, ValueError) as error:
            why = explain(error) if isinstance(error, OSError) else error
            raise ConfigError(
                f"{self.path} holds no training run: {why}; give a folder that r2t train wrote"
            ) from error
        if not isinstance(content, dict) or not {"config", "trained_on"} <= set(content):
            raise ConfigError(f"{path} was not written by r2t train: it lacks config or trained_on")
        if not isinstance(content["trained_on"], dict):
            raise ConfigError(f"{path}: trained_on is no record; give another run's folder")
        return TrainConfig.from_dict(content["config"]), TrainedOn.from_dict(content["trained_on"])

    def load_spec(self) -> FeatureSpec:
        """Return the identity of the features trained on."""
        _, trained_on = self.load_config()
        if trained_on.identity is None:
            raise ConfigError(f"{self.path} does not say which features it was trained on")
        return trained_on.identity

    def save_weights(self, name: Literal["best", "last"], model: R2Model) -> None:
        """Write weights for evaluation."""
        tensors = _detached(model.state_dict())
        write_whole(self.path / f"{name}.safetensors", safetensors.torch.save(tensors))

    def load_model(self, name: Literal["best", "last"] = "best") -> R2Model:
        """Return the trained model on the CPU, in evaluation mode."""
        config, _ = self.load_config()
        path = self.path / f"{name}.safetensors"
        if problems := shape_problems(config.model, _shapes(path)):
            raise ConfigError(f"{path} does not fit {self.path / CONFIG}: {problems}")
        model = R2Model(config.model)
        model.load_state_dict(_tensors(path))
        return model.eval()

    def load_initial(self) -> dict[str, Tensor]:
        """Return the weights that a fine-tuned run begins with."""
        return _tensors(self.path / INITIAL)

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
            require_plain(path)
            with safetensors.safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                counters = json.loads((file.metadata() or {})[COUNTERS])
        except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
            raise ConfigError(f"{path} is damaged: {error}; start a new run") from error
        return tensors, counters

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add a line to the metrics."""
        with (self.path / METRICS_FILE).open("a") as file:
            file.write(json.dumps(dict(record)) + "\n")

    def cut_metrics(self, num_epochs: int) -> None:
        """Keep the lines of finished epochs; those after were broken off by an interruption.

        A line that cannot be read is left out, with a `RunWarning`: its figures are lost, but
        nothing that the run continues from.
        """
        path = self.path / METRICS_FILE
        kept = {
            record["epoch"]: line
            for line in _lines(path)
            if (record := _record(line)) is not None and record["epoch"] < num_epochs
        }
        if len(kept) < num_epochs:
            lost = [epoch + 1 for epoch in range(num_epochs) if epoch not in kept]
            warnings.warn(
                f"{path} is damaged: it lacks the figures of epoch {', '.join(map(str, lost[:10]))}"
                f"{', …' if lost[10:] else ''}; the run continues without them",
                RunWarning,
                stacklevel=3,
            )
        write_whole(path, b"".join(kept[epoch] + b"\n" for epoch in sorted(kept)))

    def metrics(self) -> list[dict[str, Any]]:
        """Return the records of the finished epochs that can be read."""
        lines = _lines(self.path / METRICS_FILE)
        return [record for line in lines if (record := _record(line)) is not None]


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a file's tensors, which its head tells."""
    try:
        require_plain(path)
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise ConfigError(f"cannot read weights from {path}: {error}") from error


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        require_plain(path)
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ConfigError(f"cannot read weights from {path}: {error}") from error


def _lines(path: Path) -> list[bytes]:
    return read_plain(path, _MAX_RECORD_BYTES).splitlines() if path.exists() else []


def _record(line: bytes) -> dict[str, Any] | None:
    """Read a line of the metrics; None if it is none."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    number = record.get("epoch") if isinstance(record, dict) else None
    return record if isinstance(number, int) and number >= 0 else None


def _differences(
    before: Mapping[str, Any], now: Mapping[str, Any], names: Iterable[str], within: str = ""
) -> list[str]:
    """Say what differs, down to the single setting; a long record looks the same when cut short."""
    found: list[str] = []
    for name in names:
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, {**old, **new}, f"{within}{name}.")
        elif old != new:
            found.append(f"{within}{name}: {reprlib.repr(old)} before, {reprlib.repr(new)} now")
    return found


def _named(trained_on: TrainedOn) -> dict[str, Any]:
    return {f"trained_on.{name}": value for name, value in trained_on.lasting().items()}


def _detached(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
