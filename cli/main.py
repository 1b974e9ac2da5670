"""`r2t`: the command line. Commands import what they need when they run, so that help is quick."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from r2t.cli import store
from r2t.cli.demo import demo
from r2t.cli.eval import EXAMPLES as EVAL_EXAMPLES
from r2t.cli.eval import evaluate
from r2t.cli.extract import extract
from r2t.cli.import_checkpoint import import_checkpoint
from r2t.cli.predict import EXAMPLES as PREDICT_EXAMPLES
from r2t.cli.predict import predict
from r2t.cli.train import EXAMPLES as TRAIN_EXAMPLES
from r2t.cli.train import train

app = typer.Typer(
    name="r2t",
    help="Type a sentence, get the moments of a video it speaks of.",
    epilog="Start with `r2t demo`: an embedded example, offline, on a CPU.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"r2t {version('r2-tuning')}")
        raise typer.Exit


@app.callback()
def main(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Type a sentence, get the moments of a video it speaks of."""


app.command()(extract)
app.command(epilog=TRAIN_EXAMPLES)(train)
app.command("eval", epilog=EVAL_EXAMPLES)(evaluate)
app.command(epilog=PREDICT_EXAMPLES)(predict)
app.command("import-checkpoint")(import_checkpoint)
app.command()(demo)
app.add_typer(store.app, name="store")
