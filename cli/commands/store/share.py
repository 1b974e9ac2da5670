"""`r2t store push` and `pull`: a store on a hub, resumed and verified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from r2t.cli.shared import (
    SOME_FAILED,
    HubDataset,
    Json,
    Licence,
    OptionalZipSize,
    Private,
    Quick,
    StoreFolder,
    examples,
    handle_errors,
    human_bytes,
    json_ready,
    note,
    print_json,
    progress_bar,
    required_licence,
    say,
)
from r2t.store import card as cards, change, share
from r2t.store.wording import counted


@examples(
    "r2t store push feats.zarr hf://datasets/ORG/NAME --licence CC-BY-4.0",
    "r2t store push feats.zarr hf://datasets/ORG/NAME --private --zip-size 4GB",
)
def push(
    store: StoreFolder,
    url: HubDataset,
    licence: Licence = None,
    private: Private = False,
    zip_size: OptionalZipSize = None,
    quick: Quick = False,
    json: Json = False,
) -> None:
    """Send a store to a hub, as a set of zips that opens there as one store.

    Its card and licence are sent along; a store without a licence is refused. Every video is
    checked before it is sent. Run the same command again to resume, or to send what was added: zips
    that the hub has are not sent again. The set appears all at once, at the end; a zip holds 2 GB
    by default. What people wrote into README.md on the hub is kept.
    """
    with handle_errors():
        before = cards.read_card(store)
        stated = required_licence(licence, before.licence, "features and annotations")
        with progress_bar("licences") as show_done:
            cards.write_card(store, replace(before, licence=stated), on_video=show_done)
        with progress_bar("videos") as show_done:
            report = share.push_store(
                store,
                url,
                max_bytes=zip_size or change.DEFAULT_ZIP_BYTES,
                private=private,
                quick=quick,
                on_video=show_done,
            )
        if json:
            print_json(json_ready(report))
            return
        say(
            f"{report.url}: {counted(report.num_videos, 'video')}, "
            f"{counted(report.num_queries, 'query')}, {counted(report.num_zips, 'zip')} of "
            f"{human_bytes(report.num_bytes)}, {report.num_new} of them new"
        )
        say(f"commit: {report.commit}")
        say(f"content: {report.content}")


@examples(
    "r2t store pull hf://datasets/ORG/NAME feats.zarr",
    "r2t store pull hf://datasets/ORG/NAME@v1 feats.zarr",
)
def pull(
    url: HubDataset,
    into: Annotated[Path, typer.Argument(help="The store to make or add to.", metavar="STORE")],
    json: Json = False,
) -> None:
    """Fetch a store from a hub into a folder, checking every digest.

    A store on a hub can also be read where it is: give its URL instead of a folder. Run the same
    command again to resume.
    """
    with handle_errors():
        with progress_bar("videos") as show_done:
            report = share.pull_store(url, into, on_video=show_done)
        for name, reason in report.failures.items():
            note(f"failed: {name}: {reason}", style="red")
        if json:
            print_json({"store": str(into), **json_ready(report)})
        else:
            present = f" ({report.num_present} were there)" if report.num_present else ""
            say(
                f"{into}: {counted(report.num_videos, 'video')}{present}, "
                f"{counted(report.num_queries, 'query')}, every digest checked"
            )
            say(f"commit: {report.commit}")
            say(f"content: {report.content}")
        if report.failures:
            note(f"left out, because damaged on the hub: {counted(len(report.failures), 'item')}")
            raise typer.Exit(SOME_FAILED)
