"""What the commands share on a terminal: two consoles, errors, JSON, progress.

Answers go to stdout and everything else to stderr, so that `r2t … --json | jq` works.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import time
import warnings
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.text import Text

from r2t.cli.shared.memory import explain_gpu_fault, explain_shortage, is_shortage
from r2t.cli.shared.text import encodable, json_text, on_one_line, visible
from r2t.store.errors import R2TError, is_gpu_fault
from r2t.store.files import explain, write_whole
from r2t.store.json_lines import to_json

SOME_FAILED, CANNOT, INTERRUPTED = 1, 2, 130
_LINE_EVERY_SECONDS = 10.0


class _Terminal(Console):
    """A console on which no text can steer the terminal, whatever its encoding.

    Brackets are brackets and colons are colons. All that is printed passes through `render`.
    """

    def __init__(self, file: TextIO) -> None:
        super().__init__(file=file, markup=False, emoji=False, highlight=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render an object, with its texts made fit to print."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                text = encodable(visible(segment.text), self.encoding)
                yield Segment(text, segment.style)


def answers() -> Console:
    """Return the console for what was asked."""
    return _Terminal(sys.stdout)


def notes() -> Console:
    """Return the console for progress, notices and errors."""
    return _Terminal(sys.stderr)


def say(answer: str, style: str = "") -> None:
    """Print a line of an answer, however narrow the terminal is."""
    if style:
        answers().print(on_one_line(answer), style=style, soft_wrap=True)
    else:  # tabs stay tabs
        typer.echo(encodable(on_one_line(answer), sys.stdout.encoding or "utf-8"))


def note(message: str, style: str = "") -> None:
    """Print a notice on one line, however narrow the terminal is."""
    notes().print(on_one_line(message), style=style, soft_wrap=True)


@contextmanager
def handle_errors() -> Generator[None]:
    """Turn what a user can cause into one line and an exit status, and warnings into one line."""
    with warnings.catch_warnings(), _noted_logs():
        warnings.showwarning = _show_warning
        try:
            yield
        except R2TError as error:
            note(f"error: {error}", style="red")
            raise typer.Exit(CANNOT) from error
        except KeyboardInterrupt as error:
            note("interrupted; run the same command again", style="yellow")
            raise typer.Exit(INTERRUPTED) from error
        except (MemoryError, RuntimeError, ImportError, OSError) as error:
            if is_shortage(error):
                note(f"error: {explain_shortage(error)}", style="red")
                raise typer.Exit(CANNOT) from error
            if is_gpu_fault(error):
                note(f"error: {explain_gpu_fault(error)}", style="red")
                raise typer.Exit(CANNOT) from error
            if (
                not isinstance(error, OSError)
                or error.errno is None
                or isinstance(error, BrokenPipeError)
            ):
                raise  # not of a disk, or nobody reads our output any longer, as with `head`
            note(f"error: {explain(error)}", style="red")
            raise typer.Exit(CANNOT) from error


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(f"{record.levelname.lower()}: {record.getMessage()}", style="yellow")


@contextmanager
def _noted_logs() -> Generator[None]:
    """Print as notes what libraries log without a handler of their own."""
    before = logging.lastResort
    logging.lastResort = _Notes(logging.WARNING)
    try:
        yield
    finally:
        logging.lastResort = before


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    note(f"warning: {message}", style="yellow")


def cell(value: object) -> Text:
    """Wrap a value for a table, fit to print before its width is measured."""
    return Text(visible(str(value)))


def human_bytes(num_bytes: float) -> str:
    """Write a number of bytes with a decimal unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"


def human_seconds(seconds: float) -> str:
    """Write a duration with the two units that matter."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def json_ready(report: Any) -> dict[str, Any]:
    """Return a report's fields as JSON values."""
    return json.loads(to_json(dataclasses.asdict(report), default=str))


def print_json(value: Mapping[str, Any]) -> None:
    """Print JSON on stdout."""
    encoding = sys.stdout.encoding or "utf-8"
    typer.echo(json_text(value, ascii_only=not encoding.lower().startswith("utf")))


def write_json(value: Mapping[str, Any], path: Path) -> None:
    """Write JSON to a file that the user named."""
    write_whole(path, json_text(value) + "\n")


class ShowDone(Protocol):
    """Shows how much is done, of how much, and a few words on how it goes."""

    def __call__(self, done: float, total: float, detail: str = "") -> None: ...


@contextmanager
def progress_bar(label: str, total: int | None = None) -> Generator[ShowDone]:
    """Yield a function that shows progress: a bar on a terminal, else a few lines.

    Without a `total`, the bar appears once that is known.
    """
    console = notes()
    if not console.is_terminal:
        with _named(label):
            yield _line_printer(label)
        return
    with (
        _named(label),
        Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=console,
            transient=True,
        ) as progress,
    ):
        task = progress.add_task(label, total=total, detail="", visible=total is not None)

        def show_done(done: float, total: float, detail: str = "") -> None:
            progress.update(task, completed=done, total=total, detail=detail, visible=True)

        yield show_done


@contextmanager
def _named(label: str) -> Generator[None]:
    """Let an error say what was being done."""
    try:
        yield
    except Exception as error:
        error.add_note(label)
        raise


def _line_printer(label: str) -> ShowDone:
    began = printed = time.monotonic()

    def show_done(done: float, total: float, detail: str = "") -> None:
        nonlocal printed
        now = time.monotonic()
        if done and now - printed >= _LINE_EVERY_SECONDS:
            left = (now - began) / done * (total - done)
            words = f"; {detail}" if detail else ""
            note(f"{label}: {int(done)}/{total}, about {human_seconds(left)} left{words}")
            printed = now

    return show_done
