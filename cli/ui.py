"""What the commands share on a terminal: two consoles, errors, JSON, progress.

Answers go to stdout and everything else to stderr, so that `r2t … --json | jq` works.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from r2t.store.errors import ConfigError, R2TError

SOME_FAILED, CANNOT, INTERRUPTED = 1, 2, 130


def answers() -> Console:
    """Return the console for what was asked."""
    return Console(file=sys.stdout)


def notes() -> Console:
    """Return the console for progress, notices and errors."""
    return Console(file=sys.stderr, highlight=False)


def note(message: str, style: str = "") -> None:
    """Print a notice on one line, however narrow the terminal is."""
    notes().print(message, style=style, markup=False, soft_wrap=True)


@contextmanager
def handle_errors() -> Generator[None]:
    """Turn what a user can cause into one line and an exit status, and warnings into one line."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            yield
        except R2TError as error:
            note(f"error: {error}", style="red")
            raise typer.Exit(CANNOT) from error
        except KeyboardInterrupt as error:
            note("interrupted", style="yellow")
            raise typer.Exit(INTERRUPTED) from error


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    note(f"warning: {message}", style="yellow")


def cell(value: object) -> Text:
    """Wrap a value for a table, where brackets would be read as markup."""
    return Text(str(value))


def print_json(value: Mapping[str, Any]) -> None:
    """Print JSON on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def write_json(value: Mapping[str, Any], path: Path) -> None:
    """Write JSON to a file, or to stdout where the path is `-`."""
    if str(path) == "-":
        print_json(value)
    else:
        write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file that the user named."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def progress_bar(label: str, total: int) -> Generator[Callable[[int], None]]:
    """Yield a function that is told how many are done; the bar shows on terminals only."""
    console = notes()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(label, total=total)

        def show_done(completed: int) -> None:
            progress.update(task, completed=completed)

        yield show_done
