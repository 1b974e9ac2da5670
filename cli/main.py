"""`r2t`: the command line. A command is imported when it is called, and heavy libraries when used.

A command's file imports all it uses at its head. Rooms whose modules need torch, CLIP, zarr or
pandas it imports as rooms (`from r2t.train import grounding`), since these load a name at its first
use (`grounding.Grounder`): so help and completion stay quick, and only what is asked for is loaded.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from r2t.cli.shared import LazyCommand, new_app

_HERE = "r2t.cli.commands"

app = new_app(
    LazyCommand(
        "extract",
        "Run CLIP once over videos and their sentences.",
        f"{_HERE}.extract.extract:extract",
    ),
    LazyCommand("train", "Train R²-Tuning on a feature store.", f"{_HERE}.train.train:train"),
    LazyCommand("eval", "Score a model, or predictions.", f"{_HERE}.eval:evaluate"),
    LazyCommand("compare", "Test whether models differ.", f"{_HERE}.compare:compare"),
    LazyCommand("predict", "Find a sentence's moments in a video.", f"{_HERE}.predict:predict"),
    LazyCommand("highlights", "Cut a short reel of a video.", f"{_HERE}.highlights:highlights"),
    LazyCommand("calibrate", "Learn when a sentence is absent.", f"{_HERE}.calibrate:calibrate"),
    LazyCommand("report", "Write a web page of a split's answers.", f"{_HERE}.report:report"),
    LazyCommand("search", "Search a whole store for a sentence.", f"{_HERE}.search:search"),
    LazyCommand("serve", "Ask videos in the browser.", f"{_HERE}.serve:serve"),
    LazyCommand(
        "import-checkpoint",
        "Import weights of the official code.",
        f"{_HERE}.import_checkpoint:import_checkpoint",
    ),
    LazyCommand(
        "submission",
        "Check and pack predictions for QVHighlights.",
        f"{_HERE}.submission:submission",
    ),
    LazyCommand("demo", "Try everything on an embedded example.", f"{_HERE}.demo.demo:demo"),
    LazyCommand("doctor", "Say what this machine has and lacks.", f"{_HERE}.doctor:doctor"),
    LazyCommand("store", "Inspect and maintain a feature store.", f"{_HERE}.store.store:app"),
    LazyCommand("run", "Send a run to a hub, or fetch one.", f"{_HERE}.run:app"),
    LazyCommand("data", "Check your own videos and annotations.", f"{_HERE}.data:app"),
    name="r2t",
    help="Type a sentence, get the moments of a video that it describes.",
    epilog="Start with `r2t demo`: an embedded example, offline, on a CPU.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"r2t {version('r2-tuning')}")
        raise typer.Exit


@app.callback()
def main(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Type a sentence, get the moments of a video that it describes."""
