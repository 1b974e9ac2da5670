"""`r2t`: the command line. Commands import what they need when they run, so that help is quick."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from r2t.cli.commands import (
    calibrate,
    compare,
    data,
    doctor,
    eval as evaluation,
    import_checkpoint,
    predict,
    report,
    search,
    serve,
    submission,
)
from r2t.cli.commands.demo import demo
from r2t.cli.commands.extract import extract
from r2t.cli.commands.store import store
from r2t.cli.commands.train import train
from r2t.cli.shared import new_app

app = new_app(
    name="r2t",
    help="Type a sentence, get the moments of a video it speaks of.",
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
    """Type a sentence, get the moments of a video it speaks of."""


def _add(name: str, summary: str, command: Callable[..., None], epilog: str) -> None:
    app.command(name, short_help=summary, epilog=epilog)(command)


_add("extract", "Run CLIP once over videos and their sentences.", extract.extract, extract.EXAMPLES)
_add("train", "Train R²-Tuning on a feature store.", train.train, train.EXAMPLES)
_add("eval", "Score a model, or predictions.", evaluation.evaluate, evaluation.EXAMPLES)
_add("compare", "Tell whether models differ.", compare.compare, compare.EXAMPLES)
_add("predict", "Find a sentence's moments in a video.", predict.predict, predict.EXAMPLES)
_add("calibrate", "Learn when a sentence is absent.", calibrate.calibrate, calibrate.EXAMPLES)
_add("report", "Write a page of a split's answers.", report.report, report.EXAMPLES)
_add("search", "Find a sentence in a whole store.", search.search, search.EXAMPLES)
_add("serve", "Ask videos in the browser.", serve.serve, serve.EXAMPLES)
_add(
    "import-checkpoint",
    "Use weights of the official code.",
    import_checkpoint.import_checkpoint,
    import_checkpoint.EXAMPLES,
)
_add(
    "submission",
    "Check and pack predictions for QVHighlights.",
    submission.submission,
    submission.EXAMPLES,
)
_add("demo", "Try all of it on an embedded example.", demo.demo, demo.EXAMPLES)
_add("doctor", "Say what this machine has and lacks.", doctor.doctor, doctor.EXAMPLES)
app.add_typer(store.app, name="store")
app.add_typer(data.app, name="data")
