"""What a run remembers of the features and queries that it was trained on.

It is the part `trained_on` of a run's config.json. What a run does not know is not written: one
that was imported has no queries, one of an earlier version no longest video.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from r2t.store.errors import ConfigError, R2TError
from r2t.store.schema import FeatureSpec


@dataclass(frozen=True)
class InitialWeights:
    """Where the weights that a fine-tuned run began with came from."""

    run: str
    sha256: str


@dataclass(frozen=True)
class ImportedWeights:
    """The file of the official code that a run's weights were read from."""

    name: str
    sha256: str


@dataclass(frozen=True)
class AllowedChange:
    """A store that had changed when a run was resumed after so many epochs, and how."""

    num_epochs: int
    content_before: str
    changes: str


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """The features and queries of a training.

    `store` is where the features lay, `content` the digest of what they were; `identity` and
    `provenance` are the store's own. `queries` is a digest of which queries were trained and
    validated on. `longest_num_frames` is the longest video trained on, `longest_whole_num_frames`
    the longest that was validated on whole. `allowed_changes` are those of the store under a run
    that went on all the same.
    """

    store: str | None = None
    content: str | None = None
    identity: FeatureSpec | None = None
    provenance: Mapping[str, Any] | None = None
    num_train_queries: int | None = None
    num_val_queries: int | None = None
    queries: str | None = None
    longest_num_frames: int | None = None
    held_out_videos: tuple[str, ...] | None = None
    initial: InitialWeights | None = None
    longest_whole_num_frames: int | None = None
    imported: ImportedWeights | None = None
    allowed_changes: tuple[AllowedChange, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what is known as JSON-ready values, in the order of the fields."""
        known = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return {name: _jsonable(value) for name, value in known.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainedOn:
        """Read what `to_dict` wrote, here or in another version; fields not known here are ignored.

        Raises:
            ConfigError: A field is not what it should be.
        """
        found: dict[str, Any] = {}
        for name, (legal, read) in _READERS.items():
            if name not in values:
                continue
            try:
                found[name] = read(values[name])
            except (R2TError, KeyError, TypeError, ValueError) as error:
                why = f": {error}" if isinstance(error, R2TError) else ""
                raise ConfigError(
                    f"the run says trained_on.{name} = {values[name]!r}: not {legal}{why}"
                ) from error
        return cls(**found)

    def lasting(self) -> dict[str, Any]:
        """Return what must be the same for a run to be resumed, as JSON-ready values.

        Where the features lay and how they came to be is left out: not what they were.
        """
        values = self.to_dict()
        values.pop("store", None)
        values.pop("provenance", None)
        values.pop("allowed_changes", None)
        if self.initial is not None:
            values["initial"] = self.initial.sha256
        return values


def _jsonable(value: Any) -> Any:
    if isinstance(value, FeatureSpec):
        return value.to_dict()
    if isinstance(value, InitialWeights | ImportedWeights):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    if isinstance(value, tuple):
        return [
            dataclasses.asdict(each) if isinstance(each, AllowedChange) else each
            for each in cast("tuple[Any, ...]", value)
        ]
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _count(value: Any, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise TypeError
    return value


def _num_frames(value: Any) -> int:
    return _count(value, least=1)


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError
    return cast("dict[str, Any]", value)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(map(_text, cast("list[Any]", value)))


def _spec(value: Any) -> FeatureSpec:
    return FeatureSpec.from_dict(_mapping(value))


def _initial(value: Any) -> InitialWeights:
    values = _mapping(value)
    return InitialWeights(_text(values["run"]), _text(values["sha256"]))


def _imported(value: Any) -> ImportedWeights:
    values = _mapping(value)
    return ImportedWeights(_text(values["name"]), _text(values["sha256"]))


def _allowed_changes(value: Any) -> tuple[AllowedChange, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(
        AllowedChange(
            _count(each["num_epochs"]), _text(each["content_before"]), _text(each["changes"])
        )
        for each in map(_mapping, cast("list[Any]", value))
    )


# By field: what is legal, in words, and how it is read.
_READERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "store": ("a text", _text),
    "content": ("a text", _text),
    "identity": ("the identity of a feature store", _spec),
    "provenance": ("a record", _mapping),
    "num_train_queries": ("a count", _count),
    "num_val_queries": ("a count", _count),
    "queries": ("a text", _text),
    "longest_num_frames": ("a count of frames", _num_frames),
    "held_out_videos": ("a list of video ids", _texts),
    "initial": ("a run and the SHA-256 of its weights", _initial),
    "longest_whole_num_frames": ("a count of frames", _num_frames),
    "allowed_changes": ("a list of changes of the store", _allowed_changes),
    "imported": ("a file's name and its SHA-256", _imported),
}
