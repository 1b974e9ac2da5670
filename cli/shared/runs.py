"""Runs that a command takes: a folder, or a place on a hub, fetched before the command begins."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from typer.core import TyperCommand

from r2t.cli.shared.ui import handle_errors, note
from r2t.store import share
from r2t.store.errors import ConfigError
from r2t.train import grounding, run

_SHORTENED_URL = re.compile(r"[a-z][a-z0-9+.-]+:/(?!/)", re.IGNORECASE)  # not C:/
_MOST_RECORD_BYTES, _MOST_WEIGHT_BYTES = 2**28, 2**33


class HubRun(str):
    """The URL of a run on a hub, as it was typed."""

    __slots__ = ()


def run_rules() -> share.FileRules:
    """Return which files of a run are fetched from a hub: weights, settings and records."""
    most_bytes = dict.fromkeys(
        (run.CONFIG, run.METRICS_FILE, grounding.PRESENCE, run.MODEL_CARD), _MOST_RECORD_BYTES
    )
    return share.FileRules(
        "run", {**most_bytes, run.WEIGHTS: _MOST_WEIGHT_BYTES}, (run.CONFIG, run.WEIGHTS)
    )


def parse_run(text: str) -> Path | HubRun:
    """Read a run as it is typed: nothing is fetched yet."""
    return HubRun(text) if text.lower().startswith("hf://") else Path(text)


class RunCommand(TyperCommand):
    """A command whose runs are all on this machine when it begins."""

    def invoke(self, ctx: Any) -> Any:
        """Fetch the runs that are on a hub, then do the work."""
        with handle_errors():
            _refuse_urls(ctx)
            with_runs_here(ctx.params)
        return super().invoke(ctx)


def _refuse_urls(ctx: Any) -> None:
    """Raise `ConfigError` for a URL where a path belongs: a path has only one of its slashes left.

    Otherwise it would be a file that does not exist, or a new folder with such a name.
    """
    for parameter in ctx.command.params:
        given = ctx.params.get(parameter.name)
        values = cast("Iterable[Any]", given) if isinstance(given, list | tuple) else (given,)
        for value in values:
            if isinstance(value, Path) and _SHORTENED_URL.match(str(value)) and not value.exists():
                name = parameter.opts[0]
                url = str(value).replace(":/", "://", 1)
                raise ConfigError(
                    f"{name} {url}: this is a URL; give the path of a file or folder here"
                )


def with_runs_here(parameters: dict[str, Any]) -> None:
    """Let every run among a command's parameters be a folder on this machine.

    With `--offline` only the cache is asked.
    """
    offline = bool(parameters.get("offline"))
    for name, value in parameters.items():
        if isinstance(value, HubRun):
            parameters[name] = _fetched(value, offline)
        elif isinstance(value, list | tuple):
            items = cast("list[Any] | tuple[Any, ...]", value)
            if any(isinstance(item, HubRun) for item in items):
                parameters[name] = [
                    _fetched(item, offline) if isinstance(item, HubRun) else item for item in items
                ]


def _fetched(url: HubRun, offline: bool) -> Path:
    folder = share.cached_files(str(url), run_rules(), offline=offline)
    note(f"note: {url} is read from {folder}")
    return folder
