"""The settings of a training: the preset's or the resumed run's, with what was given changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from json import loads
from pathlib import Path
from typing import Any, cast

import r2t.store
from r2t.cli.commands.train.initial_run import held_out_by
from r2t.cli.shared import note
from r2t.store.errors import ConfigError
from r2t.train import data, run, training
from r2t.train.choices import Recipe


def base_config(
    store: r2t.store.FeatureStore,
    folder: Path,
    preset: str | None,
    recipe: Recipe | None,
    *,
    resume: bool,
) -> run.TrainConfig:
    """Return the settings of the run to resume, or of the preset."""
    if resume:
        if not (folder / run.CONFIG).exists():
            raise ConfigError(run.RunFolder(folder).absent())
        recorded, _ = run.RunFolder(folder).load_config()
        for name, given, used in (
            ("preset", preset, recorded.preset),
            ("recipe", recipe, recorded.losses.recipe),
        ):
            if given not in (None, used):
                raise ConfigError(f"{folder} was started with {name} {used!r}, not {given!r}")
        return recorded
    chosen = run.OWN_PRESET if preset is None else run.find_preset(preset)
    if chosen is not run.OWN_PRESET and chosen.frame_rate != store.spec.frame_rate:
        note(
            f"note: the preset {chosen.name} is for features at --fps {chosen.frame_rate}, "
            f"the store has {store.spec.frame_rate}"
        )
    return chosen.train_config(
        recipe=recipe or "paper",
        num_layers=store.spec.num_layers,
        vision_width=store.spec.vision_width,
        text_width=store.spec.text_width,
    )


@dataclass(frozen=True)
class GivenSettings:
    """What was typed: `fields` by their names, None where nothing was, and texts of `--set`."""

    fields: Mapping[str, Any]
    texts: Sequence[str]

    def put_into(self, config: run.TrainConfig) -> run.TrainConfig:
        """Return settings with what was given in place of what they say."""
        return with_changes(with_settings(config, self.texts), self.fields)


def settle(
    base: run.TrainConfig,
    given: GivenSettings,
    store: r2t.store.FeatureStore,
    folder: Path,
    *,
    domain: str | None,
    val_fraction: float,
    resume: bool,
) -> tuple[run.TrainConfig, training.Splits]:
    """Return the settings of a training, and the queries that it learns from and validates on.

    Without a preset the settings follow the data, but for what was given.
    """
    config = given.put_into(base)
    splits = training.split_annotations(
        store,
        domain=domain,
        val_fraction=val_fraction,
        seed=config.seed,
        held_out=held_out_by(folder),
    )
    if config.preset == run.OWN_DATA and not resume:
        config = given.put_into(follow(config, store, splits, folder))
    return config, splits


def follow(
    config: run.TrainConfig, store: r2t.store.FeatureStore, splits: training.Splits, folder: Path
) -> run.TrainConfig:
    """Return settings that follow the data, or the interrupted run in the folder that did so."""
    if (folder / run.CONFIG).exists():
        begun, _ = run.RunFolder(folder).load_config()
        if begun.preset == run.OWN_DATA:
            return run.follow_run(config, begun)
    num_queries = data.count_trained(store, splits.train, config.min_duration_seconds)
    return run.follow_data(config, num_queries=num_queries, frame_rate=store.spec.frame_rate)


def with_changes(config: run.TrainConfig, changes: Mapping[str, Any]) -> run.TrainConfig:
    """Set fields, those of a part named `part.field`; None leaves a field as it is."""
    fields: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        if value is not None:
            part, _, field = name.rpartition(".")
            fields.setdefault(part, {})[field] = value
    own = fields.pop("", {})
    parts = {part: replace(getattr(config, part), **given) for part, given in fields.items()}
    return replace(config, **own, **parts)


def with_settings(config: run.TrainConfig, given: Sequence[str]) -> run.TrainConfig:
    """Set fields given as `name=value`, where values are as in JSON and text needs no quotes."""
    values = config.to_dict()
    for text in given:
        name, equals, value = text.partition("=")
        part, _, field = name.rpartition(".")
        target: dict[str, Any] = values if not part else _part(values, part)
        if not equals or field not in target or _part(target, field):
            names = list(_setting_names(values))
            near = get_close_matches(name, names, 1)
            meant = f"; did you mean {near[0]}?" if near and name not in names else ""
            raise ConfigError(f"--set {text}: give NAME=VALUE; names are {', '.join(names)}{meant}")
        with suppress(ValueError):
            value = loads(value)
        target[field] = value
    return type(config).from_dict(values)


def _setting_names(values: Mapping[str, Any]) -> Iterator[str]:
    for name in values:
        yield from [f"{name}.{field}" for field in _part(values, name)] or [name]


def _part(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the part of the settings of this name; empty if it is no part."""
    found = values.get(name)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
