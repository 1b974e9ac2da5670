"""`r2t store`: inspect and maintain a feature store."""

from __future__ import annotations

from r2t.cli.shared import LazyCommand, new_app

_HERE = "r2t.cli.commands.store"

app = new_app(
    LazyCommand("import", "Make a store from the official features.", f"{_HERE}.transfer:import_"),
    LazyCommand("export", "Write features for other tools.", f"{_HERE}.transfer:export"),
    LazyCommand("verify", "Find everything that is wrong with a store.", f"{_HERE}.verify:verify"),
    LazyCommand("repair", "Fix what can be fixed, list the rest.", f"{_HERE}.repair:repair"),
    LazyCommand("upgrade", "Bring an older store to this format.", f"{_HERE}.upgrade:upgrade"),
    LazyCommand(
        "coverage", "List annotated videos that lack features.", f"{_HERE}.coverage:coverage"
    ),
    LazyCommand("remove", "Remove videos from a store.", f"{_HERE}.remove:remove"),
    LazyCommand("merge", "Merge several stores into one.", f"{_HERE}.combine:merge"),
    LazyCommand("subset", "Make a smaller store.", f"{_HERE}.combine:subset"),
    LazyCommand("pack", "Write a store into zip archives.", f"{_HERE}.combine:pack"),
    LazyCommand("unpack", "Make a store from zip archives.", f"{_HERE}.combine:unpack"),
    LazyCommand("push", "Send a store to a hub.", f"{_HERE}.share:push"),
    LazyCommand("pull", "Fetch a store from a hub.", f"{_HERE}.share:pull"),
    LazyCommand(
        "annotate", "Add or replace sentences of stored videos.", f"{_HERE}.annotate:annotate"
    ),
    LazyCommand("licence", "Show or record the videos' licences.", f"{_HERE}.annotate:licence"),
    LazyCommand("card", "Write README.md and croissant.json into a store.", f"{_HERE}.card:card"),
    LazyCommand("diff", "Say what two stores differ in.", f"{_HERE}.diff:diff"),
    LazyCommand("info", "Show what a store holds.", f"{_HERE}.info:info"),
    help="Inspect and maintain a feature store.",
)


@app.callback()
def store() -> None:
    """Inspect and maintain a feature store."""
