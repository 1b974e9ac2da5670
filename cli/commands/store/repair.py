"""`r2t store repair`: what is damaged set aside, and what is lost listed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from r2t.cli.shared import (
    SOME_FAILED,
    ChangedStore,
    Json,
    Quick,
    Threads,
    examples,
    handle_errors,
    json_ready,
    print_json,
    progress_bar,
    say,
)
from r2t.store import change
from r2t.store.files import write_whole
from r2t.store.json_lines import id_line
from r2t.store.sources import is_url
from r2t.store.wording import counted, named


@examples(
    "r2t store repair feats.zarr",
    "r2t store repair feats.zarr --compact    # only join the parts of many runs",
    "r2t extract --videos ./qvh --only feats.zarr.extract-again.txt    # what repair listed",
)
def repair(
    store: ChangedStore,
    quick: Quick = False,
    list_file: Annotated[
        Path | None,
        typer.Option(
            "--list",
            help="Where to list the videos to extract again, one id per line, for `r2t extract "
            "--only`. By default STORE.extract-again.txt; of a store in a bucket, in this folder.",
        ),
    ] = None,
    compact: Annotated[
        bool,
        typer.Option(
            "--compact",
            help="Only join small parts of the index and the queries into few, so that the store "
            "opens sooner; nothing of the videos is read. Readers and extractions may go on.",
        ),
    ] = False,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Set aside what is damaged, rebuild the index, join its parts, list what to extract again.

    Damaged and foreign files move to STORE.damaged; only what killed runs and an upgrade left
    behind is deleted. What the index records of a video is restored from it, and a damaged header
    from what the parts repeat.
    Exits with 1 if videos or queries must be extracted again.
    """
    if compact:
        _compact(store, json=json)
        return
    with handle_errors():
        with progress_bar("videos") as show_done:
            report = change.repair_store(
                store, quick=quick, num_threads=threads, on_video=show_done
            )
        target = list_file or _list_beside(store)
        if report.extract_again:
            write_whole(target, "".join(f"{id_line(name)}\n" for name in report.extract_again))
        if json:
            print_json(json_ready(report))
        else:
            _tell_repair(report, target)
    if report.extract_again or report.lost_queries:
        raise typer.Exit(SOME_FAILED)


def _compact(store: ChangedStore, *, json: bool) -> None:
    with handle_errors():
        with progress_bar("parts") as show_done:
            report = change.compact_store(store, on_part=show_done)
        if json:
            print_json(json_ready(report))
        else:
            say(f"{store}: parts: {report.num_parts_before} before, {report.num_parts_after} now")


def _list_beside(store: str) -> Path:
    """Return where to list what to extract again: beside a folder, or here for a bucket's."""
    root = Path(store.rstrip("/").rpartition("/")[2]) if is_url(store) else Path(store).resolve()
    return root.with_name(f"{root.name}.extract-again.txt")


def _tell_repair(report: change.RepairReport, target: Path) -> None:
    for fault in report.faults:
        say(str(fault))
    for place in report.set_aside:
        say(f"moved: {place} to {report.aside}/{place}")
    for folder in report.removed_runs:
        say(f"removed what a killed run left behind: {folder}")
    if report.num_parts_after != report.num_parts_before:
        say(f"parts: {report.num_parts_before} before, {report.num_parts_after} now")
    for video_id, given_up in report.lost_attributes.items():
        say(
            f"{video_id}: {' and '.join(given_up)} could not be proved and is given up; "
            "`r2t store licence` records a licence again",
            "yellow",
        )
    if report.lost_header:
        say(
            f"{' and '.join(report.lost_header)} of the header could not be proved and "
            f"{'are' if len(report.lost_header) > 1 else 'is'} given up; {report.aside}/zarr.json "
            "has what it said; `r2t store card` writes a card again",
            "yellow",
        )
    if report.lost_queries:
        say(
            f"lost {counted(len(report.lost_queries), 'query')}; `r2t store annotate` brings them "
            f"back: {named(report.lost_queries)}",
            "yellow",
        )
    if report.extract_again:
        say(
            f"to be extracted again: {counted(len(report.extract_again), 'video')}, listed in "
            f"{target}; `r2t extract --only {target}` with the original options does it",
            "yellow",
        )
    say("the store is intact" if not report.extract_again else "the rest of the store is intact")
