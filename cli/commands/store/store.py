"""`r2t store`: look into a feature store and look after it."""

from __future__ import annotations

from r2t.cli.shared import LazyCommand, new_app

_HERE = "r2t.cli.commands.store"

app = new_app(
    LazyCommand("import", "Make a store of the official features.", f"{_HERE}.transfer:import_"),
    LazyCommand("export", "Write features for other tools.", f"{_HERE}.transfer:export"),
    LazyCommand("verify", "Find all that is wrong with a store.", f"{_HERE}.care:verify"),
    LazyCommand("repair", "Mend what can be mended, list the rest.", f"{_HERE}.care:repair"),
    LazyCommand("coverage", "Tell which annotated videos lack features.", f"{_HERE}.care:coverage"),
    LazyCommand("remove", "Take videos out of a store.", f"{_HERE}.care:remove"),
    LazyCommand("merge", "Bring several stores into one.", f"{_HERE}.combine:merge"),
    LazyCommand("subset", "Make a smaller store.", f"{_HERE}.combine:subset"),
    LazyCommand("pack", "Write a store into zip archives.", f"{_HERE}.combine:pack"),
    LazyCommand("unpack", "Make a store of zip archives.", f"{_HERE}.combine:unpack"),
    LazyCommand(
        "annotate", "Add or replace sentences of stored videos.", f"{_HERE}.annotate:annotate"
    ),
    LazyCommand("licence", "Show or record the videos' licences.", f"{_HERE}.annotate:licence"),
    LazyCommand("info", "Show what a store holds.", f"{_HERE}.info:info"),
    help="Look into a feature store and look after it.",
)


@app.callback()
def store() -> None:
    """Look into a feature store and look after it."""
