"""`r2t run`: training runs on a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from r2t.cli.shared import (
    HubModel,
    Json,
    LazyCommand,
    Licence,
    Private,
    RunFolderArgument,
    examples,
    handle_errors,
    json_ready,
    new_app,
    print_json,
    required_licence,
    run_rules,
    say,
)
from r2t.store import share
from r2t.store.errors import ConfigError
from r2t.store.files import write_whole
from r2t.store.wording import counted
from r2t.train import grounding, run as runs

_HERE = "r2t.cli.commands.run"
_TENSORBOARD = "tensorboard"

app = new_app(
    LazyCommand("push", "Send a run to a hub.", f"{_HERE}:push_run"),
    LazyCommand("pull", "Fetch a run from a hub.", f"{_HERE}:pull_run"),
    help="Send a training run to a hub, or fetch one.",
)


@app.callback()
def run() -> None:
    """Send a training run to a hub, or fetch one."""


@examples(
    "r2t run push runs/x hf://ORG/NAME --licence MIT",
    "r2t run push runs/x hf://ORG/NAME --private --tensorboard",
)
def push_run(
    folder: RunFolderArgument,
    url: HubModel,
    licence: Licence = None,
    private: Private = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Send the files for TensorBoard, too.")
    ] = False,
    json: Json = False,
) -> None:
    """Send a run to a hub: weights, settings, records and a card.

    The card, README.md, is written into the run's folder: scores from the run's own records, and
    which features it was trained on. What people wrote into README.md, here or on the hub, is kept.
    Of the paths and URLs in the records only the last names are sent. The state that resumes a
    training stays here.
    """
    with handle_errors():
        runs.RunFolder(folder).load_config()  # before anything is asked
        stated = required_licence(licence, runs.stated_licence(folder), "weights")
        card = runs.model_card(folder, url, stated)
        rules = run_rules()
        write_whole(folder / runs.MODEL_CARD, card)
        files: dict[str, Path | bytes] = {
            name: folder / name for name in rules.most_bytes if (folder / name).is_file()
        }
        if missing := [name for name in rules.required if name not in files]:
            raise ConfigError(f"{folder} lacks {', '.join(missing)}: give the folder of a run")
        for name in {runs.CONFIG, grounding.PRESENCE} & files.keys():
            files[name] = runs.shared_record(folder / name)
        if tensorboard:
            files |= _tensorboard_files(folder)
        report = share.push_files(url, files, "a run of r2t", rules, private=private)
        if json:
            print_json(json_ready(report))
        else:
            say(f"{report.url}: {counted(len(report.files), 'file')}, {report.num_new} of them new")
            say(f"commit: {report.commit}")


@examples("r2t run pull hf://ORG/NAME runs/x", "r2t run pull hf://ORG/NAME@v1 runs/x")
def pull_run(
    url: HubModel,
    folder: Annotated[Path, typer.Argument(help="The folder to make.", metavar="RUN")],
    json: Json = False,
) -> None:
    """Fetch a run from a hub into a new folder.

    To use a run without keeping a copy, give its URL as --checkpoint.
    """
    with handle_errors():
        commit, files = share.pull_files(url, folder, run_rules())
        runs.RunFolder(folder).load_model()
        if json:
            print_json(
                {"run": str(folder), "commit": commit, "files": [str(each) for each in files]}
            )
        else:
            say(f"{folder}: {', '.join(each.name for each in files)}")
            say(f"commit: {commit}")


def _tensorboard_files(folder: Path) -> dict[str, Path]:
    """Return what a run wrote for TensorBoard, by names that do not tell this machine's."""
    found = sorted((folder / _TENSORBOARD).glob("events.out.tfevents.*"))
    return {
        f"{_TENSORBOARD}/{'.'.join(path.name.split('.')[:4])}.{number}": path
        for number, path in enumerate(found)
    }
