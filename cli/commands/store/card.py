"""`r2t store card`: what a person, a hub and a dataset search should know of a store."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from r2t.cli.shared import (
    ChangedStore,
    Json,
    Licence,
    examples,
    handle_errors,
    note,
    print_json,
    progress_bar,
    say,
)
from r2t.store import card as cards
from r2t.store.errors import ConfigError


@examples(
    'r2t store card feats.zarr --licence CC-BY-4.0 --title "CLIP features of my videos"',
    "r2t store card feats.zarr --citation paper.bib --url https://example.org/feats",
    "r2t store card feats.zarr",
)
def card(
    store: ChangedStore,
    licence: Licence = None,
    title: Annotated[str | None, typer.Option(help="A line that names the dataset.")] = None,
    citation: Annotated[
        str | None, typer.Option(help="How to cite it: a file, such as paper.bib, or the text.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Where the store can be found.")] = None,
    json: Json = False,
) -> None:
    """Write README.md and croissant.json into a store: what it holds, and under which licence.

    The licence is that of features and annotations. Counts, settings and provenance are taken from
    the store. The options are kept in its header, so the command without options updates the card
    after videos or sentences were added. An empty text removes what was said before.
    """
    with handle_errors():
        given: dict[str, Any] = {
            "licence": licence and cards.spdx_expression(licence),
            "title": title,
            "citation": citation and _text_of(citation),
            "url": url,
        }
        before = cards.read_card(store)
        texts = replace(before, **{name: text for name, text in given.items() if text is not None})
        with progress_bar("licences") as show_done:
            files = cards.write_card(store, texts, on_video=show_done)
        if json:
            print_json({"card": texts.to_header(), "files": list(files)})
            return
        for file in files:
            say(f"wrote {file}")
        if not texts.licence:
            note(
                "no licence is stated, so others may not use the store: add --licence CC-BY-4.0, "
                "or another of https://spdx.org/licenses",
                style="yellow",
            )


def _text_of(citation: str) -> str:
    """Return a file's content, or what was typed."""
    if not os.path.isfile(citation):  # False, not an error, for a text too long for a name
        return citation
    path = Path(citation)
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(cards.MOST_CHARACTERS + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--citation: cannot read {path}: {error}") from error
