"""How commands are put together, so that all of them answer, explain and refuse alike."""

from __future__ import annotations

from typing import Any

import typer


def new_app(**settings: Any) -> typer.Typer:
    """Return an empty group of commands.

    Its help is plain text, in which brackets are brackets and which any terminal can show; `-h`
    and `--help` print it.
    """
    return typer.Typer(
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
