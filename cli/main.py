"""`r2t`: the command line. Commands import what they need when they run, so that help is quick."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from r2t.cli import (
    calibrate,
    compare,
    data,
    demo,
    doctor,
    extract,
    import_checkpoint,
    predict,
    report,
    search,
    serve,
    store,
    submission,
    train,
)
from r2t.cli import eval as evaluation

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


app.command(epilog=extract.EXAMPLES)(extract.extract)
app.command(epilog=train.EXAMPLES)(train.train)
app.command("eval", epilog=evaluation.EXAMPLES)(evaluation.evaluate)
app.command(epilog=compare.EXAMPLES)(compare.compare)
app.command(epilog=predict.EXAMPLES)(predict.predict)
app.command(epilog=calibrate.EXAMPLES)(calibrate.calibrate)
app.command(epilog=report.EXAMPLES)(report.report)
app.command(epilog=search.EXAMPLES)(search.search)
app.command(epilog=serve.EXAMPLES)(serve.serve)
app.command("import-checkpoint", epilog=import_checkpoint.EXAMPLES)(
    import_checkpoint.import_checkpoint
)
app.command(epilog=submission.EXAMPLES)(submission.submission)
app.command(epilog=demo.EXAMPLES)(demo.demo)
app.command(epilog=doctor.EXAMPLES)(doctor.doctor)
app.add_typer(store.app, name="store")
app.add_typer(data.app, name="data")
