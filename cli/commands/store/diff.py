"""`r2t store diff`: what two stores differ in."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from r2t.cli.shared import (
    SOME_FAILED,
    Json,
    answers,
    cell,
    examples,
    handle_errors,
    json_ready,
    print_json,
    say,
)
from r2t.store import check
from r2t.store.wording import FEW_NAMES, named


@examples(
    "r2t store diff before.zarr feats.zarr",
    "r2t store diff feats.zarr https://example.org/feats.zip",
    "r2t store diff before.zarr feats.zarr --json | jq -r '.videos.added[]'",
)
def diff(
    first: Annotated[
        str, typer.Argument(metavar="FIRST", help="A store: a folder, a zip or a URL.")
    ],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="The store to compare it with.")],
    json: Json = False,
) -> None:
    """Show which videos and queries were added, changed and removed from one store to another.

    Compares the digests that the two indexes record, and how the features were made; no features
    are read. Provenance and the recorded sources of videos are shown, but count as no difference.
    Exits as diff does: 0 if the stores are equal, 1 if they differ, 2 if one cannot be read.
    """
    with handle_errors():
        found = check.diff_stores(first, second)
        if json:
            print_json({"equal": found.equal, **json_ready(found)})
        else:
            _print(found)
    if not found.equal:
        raise typer.Exit(SOME_FAILED)


def _print(found: check.StoreDiff) -> None:
    differing = {**found.identity, **_called("embedding", found.embedding)}
    differing |= _called("provenance", found.provenance)
    if differing:
        table = Table(title="made differently", title_justify="left")
        for name in ("", cell(found.first), cell(found.second)):
            table.add_column(name, overflow="fold")
        for name, (before, after) in differing.items():
            table.add_row(name, cell(before), cell(after))
        answers().print(table)
    if found.videos or found.queries:
        table = Table(title=cell(f"from {found.first} to {found.second}"), title_justify="left")
        for name in ("of", "what", "number", "ids"):
            table.add_column(name, overflow="fold")
        for what, changes in (("videos", found.videos), ("queries", found.queries)):
            for how, ids in vars(changes).items():
                if ids:
                    table.add_row(what, how, f"{len(ids):,}", cell(named(ids, FEW_NAMES)))
        answers().print(table)
    if found.recorded:
        say(f"other decoders or sources recorded: {named(found.recorded, FEW_NAMES)}")
    say("the stores differ" if not found.equal else "the stores are equal")


def _called(name: str, pairs: check.Pairs) -> check.Pairs:
    return {f"{name}: {field}": pair for field, pair in pairs.items()}
