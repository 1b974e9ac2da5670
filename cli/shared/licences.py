"""The licence of what is shared: given, stated before, or asked for on a terminal."""

from __future__ import annotations

import sys

import typer

from r2t.cli.shared.ui import note
from r2t.store import card as cards
from r2t.store.errors import ConfigError


def required_licence(given: str | None, stated: str, what: str) -> str:
    """Return an SPDX licence for `what`; ask for it on a terminal, else raise `ConfigError`."""
    if given:
        return cards.spdx_expression(given)
    if stated:
        return stated
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigError(
            f"no licence is stated, so others may not use the {what}: add --licence CC-BY-4.0, or "
            "another of https://spdx.org/licenses"
        )
    while True:
        answer = str(typer.prompt(f"SPDX licence of the {what}, such as CC-BY-4.0", err=True))
        try:
            return cards.spdx_expression(answer.strip())
        except ConfigError as error:
            note(str(error), style="yellow")
