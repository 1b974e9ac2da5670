"""How commands are put together, so that all of them answer, explain and refuse alike."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from r2t.cli.shared.text import let_all_be_written


class _Commands(TyperGroup):
    """A group whose help and answers can be written to a terminal of any encoding."""

    def main(self, *args: Any, **settings: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            let_all_be_written(stream)
        return super().main(*args, **settings)


def new_app(**settings: Any) -> typer.Typer:
    """Return an empty group of commands.

    Its help is plain text, in which brackets are brackets and which any terminal can show; `-h`
    and `--help` print it.
    """
    return typer.Typer(
        cls=_Commands,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,
    )


def examples(*commands: str) -> str:
    """Return what a command's help ends with: commands to type, a line each however long."""
    head = "Examples" if len(commands) > 1 else "Example"
    return f"{head}:\n\n\b\n" + "\n".join(f"  {command}" for command in commands)
