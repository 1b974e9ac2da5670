"""How commands are put together, so that all of them print, explain and refuse alike."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any, ClassVar, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from r2t.cli.shared.text import let_all_be_written

_Function = TypeVar("_Function", bound=Callable[..., None])
_RUN_COMMAND = "r2t.cli.shared.runs:RunCommand"
_PLAIN: dict[str, Any] = {"rich_markup_mode": None, "pretty_exceptions_enable": False}


class LazyCommand(TyperCommand):
    """A command of which the name and a summary are known; it is imported when it is called.

    `where` names a function, or a group of commands, as `module:name`.
    """

    def __init__(self, name: str, summary: str, where: str) -> None:
        super().__init__(name, short_help=summary, rich_markup_mode=None)
        self._summary = summary
        self._where = where

    def load(self) -> Any:
        """Import the command, with its options and its help."""
        found: Any = resolve_name(self._where)
        if isinstance(found, typer.Typer):
            command: Any = get_group(found)
        else:
            alone = typer.Typer(add_completion=False, **_PLAIN)
            epilog = getattr(found, "examples", None)
            kind = resolve_name(_RUN_COMMAND)
            alone.command(cls=kind, short_help=self._summary, epilog=epilog)(found)
            command = get_command(alone)
        command.name = self.name
        return command

    def make_context(self, *args: Any, **settings: Any) -> Any:
        """Read a command line; the context is that of the command itself."""
        return self.load().make_context(*args, **settings)


class _Group(TyperGroup):
    """Commands whose help and answers can be written to a terminal of any encoding."""

    listed: ClassVar[tuple[LazyCommand, ...]] = ()

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for command in self.listed:
            self.add_command(command)

    def main(self, *args: Any, **settings: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            let_all_be_written(stream)
        return super().main(*args, **settings)


def new_app(*commands: LazyCommand, **settings: Any) -> typer.Typer:
    """Return a group of commands, none of which is imported to list them.

    Its help is plain text, in which brackets are brackets and which any terminal can show; `-h`
    and `--help` print it.
    """
    return typer.Typer(
        cls=type("_Listed", (_Group,), {"listed": commands}),
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        **_PLAIN,
        **settings,
    )


def examples(*commands: str) -> Callable[[_Function], _Function]:
    """Let a command's help end with commands to type, a line each however long."""
    head = "Examples" if len(commands) > 1 else "Example"
    text = f"{head}:\n\n\b\n" + "\n".join(f"  {command}" for command in commands)

    def add(function: _Function) -> _Function:
        vars(function)["examples"] = text
        return function

    return add
