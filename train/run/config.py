"""Everything that decides how a run trains, as one frozen value written beside its weights."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from r2t.store.errors import ConfigError
from r2t.train.choices import (
    Evaluator,
    PositiveRule,
    Precision,
    PriorChoice,
    SampleOrder,
    WindowChoice,
)
from r2t.train.data import EpochOrder
from r2t.train.model import DecodeConfig, LossConfig, R2Config

# Settings that came later, and what runs that know nothing of them did.
_SINCE_ADDED: dict[str, dict[str, Any]] = {
    "TrainConfig": {"sampling": "uniform", "windows": "auto", "prior": "off"},
    "R2Config": {
        "direction": "backward",
        "pooling": "query",
        "shared_weights": True,
        "layer_weighting": False,
        "prior": False,
    },
}


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """A base rate, reached after `warmup_iterations`, times `decay` from each of `step_epochs` on.

    Epochs and iterations count from 0; the warm-up starts at `warmup_ratio` of the base rate.
    """

    learning_rate: float = 5e-4
    warmup_iterations: int = 500
    warmup_ratio: float = 0.001
    step_epochs: tuple[int, ...] = ()
    decay: float = 0.1

    def __post_init__(self) -> None:
        for name in ("learning_rate", "warmup_ratio", "decay"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be in (0, 1]")
        if self.warmup_iterations < 0:
            raise ConfigError(f"warmup_iterations = {self.warmup_iterations}: must not be negative")
        if (
            list(self.step_epochs) != sorted(set(self.step_epochs))
            or min(self.step_epochs, default=1) < 1
        ):
            raise ConfigError(f"step_epochs = {self.step_epochs}: give ascending epochs from 1 up")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All settings of a training run.

    Attributes:
        preset: The settings that the rest was derived from.
        evaluator: How validation scores.
        positive: Which frames are trained as positive, by their saliency.
        min_duration_seconds: Training leaves out shorter videos.
        epochs: Each is `repeats` passes over the training samples.
        gradient_clip: Bounds the global L2 norm.
        precision: What block and pyramid compute in during training on a GPU; everything else is
            float32, and so is any CPU, but for "bfloat16" where it has that. "tf32" is float32
            throughout, in whose products a GPU keeps ten bits of the factors.
        ema_decay: Averages the weights that are evaluated and saved.
        patience: Stop after so many epochs without a better validation score.
        sampling: The order of the samples; see `r2t.train.data.sampling`.
        windows: How long videos are asked: "off" whole, a number in windows of so many frames,
            "auto" as `Grounder.plan` has it.
        prior: Whether the model is given CLIP's own similarity; `with_prior` settles "auto".

    Raises:
        ConfigError: if a setting is not legal.
    """

    preset: str
    evaluator: Evaluator
    model: R2Config = field(default_factory=R2Config)
    losses: LossConfig = field(default_factory=LossConfig)
    decoding: DecodeConfig = field(default_factory=DecodeConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    positive: PositiveRule = "above_zero"
    min_duration_seconds: float = 0.0
    epochs: int = 30
    repeats: int = 1
    batch_size: int = 32
    weight_decay: float = 1e-4
    gradient_clip: float = 35.0
    precision: Precision = "float16"
    ema_decay: float | None = None
    patience: int | None = None
    sampling: SampleOrder = "uniform"
    windows: WindowChoice = "auto"
    prior: PriorChoice = "off"
    seed: int = 0

    def __post_init__(self) -> None:
        checks = (
            ("evaluator", *_one_of(self.evaluator, Evaluator)),
            ("precision", *_one_of(self.precision, Precision)),
            ("positive", *_one_of(self.positive, PositiveRule)),
            ("sampling", *_one_of(self.sampling, SampleOrder)),
            ("prior", *_one_of(self.prior, PriorChoice)),
            (
                "windows",
                self.windows >= 2
                if isinstance(self.windows, int)
                else self.windows in ("auto", "off"),
                "auto, off, or a number of frames from 2 up",
            ),
            ("epochs", self.epochs > 0, "positive"),
            ("repeats", self.repeats > 0, "positive"),
            ("batch_size", self.batch_size > 0, "positive"),
            ("gradient_clip", self.gradient_clip > 0, "positive"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("min_duration_seconds", self.min_duration_seconds >= 0, "0 or more"),
            ("seed", self.seed >= 0, "0 or more"),
            ("ema_decay", self.ema_decay is None or 0 < self.ema_decay < 1, "in (0, 1), or None"),
            ("patience", self.patience is None or self.patience > 0, "positive, or None"),
        )
        for name, holds, rule in checks:
            if not holds:
                raise ConfigError(f"{name} = {getattr(self, name)!r}: must be {rule}")
        if self.losses.classification == "saliency" and self.model.strides != (1,):
            raise ConfigError(
                f"losses.classification 'saliency' needs one point per frame, but "
                f"model.strides = {self.model.strides}; set strides to (1,) or use 'focal'"
            )
        if self.model.prior and self.prior == "off":
            raise ConfigError("model.prior is true, but prior = 'off': set prior to 'on' instead")

    def with_prior(self, *, has_embeddings: bool) -> TrainConfig:
        """Return settings that say "on" or "off", as fits a store, and a model that follows."""
        wanted = self.prior == "on" or self.model.prior
        on = wanted or (self.prior == "auto" and has_embeddings)
        return replace(self, prior="on" if on else "off", model=replace(self.model, prior=on))

    def num_iterations(self, num_samples: int) -> int:
        """Return how many batches a run on so many samples has."""
        order = EpochOrder(sampling=self.sampling, repeats=self.repeats)
        return self.epochs * order.num_steps(num_samples, self.batch_size)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return _jsonable(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Read what `to_dict` wrote, here or in an earlier version.

        Every field that it had must be there, and no other.
        """
        return _read(cls, values, "the configuration")


def _one_of(value: str, choices: Any) -> tuple[bool, str]:
    legal = typing.get_args(choices)
    return value in legal, "one of " + ", ".join(legal)


def _jsonable(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _jsonable(value)
        if isinstance(value, dict)
        else list(value)
        if isinstance(value, tuple)
        else value
        for name, value in values.items()
    }


def _read(cls: type[Any], values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise ConfigError(f"{where} is {values!r}, expected named settings")
    hints = typing.get_type_hints(cls)
    expected = {field.name for field in dataclasses.fields(cls)}
    values = _SINCE_ADDED.get(cls.__name__, {}) | values
    problems = [f"{name} is unknown" for name in sorted(set(values) - expected)]
    problems += [f"{name} is missing" for name in sorted(expected - set(values))]
    if problems:
        raise ConfigError(f"{where} does not fit this version of r2t: " + "; ".join(problems))
    return cls(**{name: _value(hints[name], value, name) for name, value in values.items()})


def _value(hint: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _read(typing.cast("type[Any]", hint), value, name)
    if isinstance(value, list) and typing.get_origin(hint) is tuple:
        value = tuple(value)
    if not _fits(hint, value):
        raise ConfigError(f"{name} = {value!r}, expected {_legal(hint)}")
    return value


def _legal(hint: Any) -> str:
    """Say what a setting of a type may be."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_legal(choice) for choice in arguments)
    if origin is Literal:
        return ", ".join(arguments)
    if origin is tuple:
        return f"a list, each {_legal(arguments[0])}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(hint, "null")


def _fits(hint: Any, value: Any) -> bool:
    """Check a JSON value against the few kinds of types that settings have."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(choice, value) for choice in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(arguments[0], item) for item in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is hint
