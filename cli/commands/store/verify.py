"""`r2t store verify`: everything that is wrong with a store, found and named."""

from __future__ import annotations

import typer

from r2t.cli.shared import (
    SOME_FAILED,
    Json,
    Quick,
    StoreArgument,
    Threads,
    examples,
    handle_errors,
    human_bytes,
    json_ready,
    note,
    print_json,
    progress_bar,
    say,
)
from r2t.store import check
from r2t.store.wording import counted


@examples(
    "r2t store verify feats.zarr",
    "r2t store verify feats.zarr --quick",
    "r2t store verify s3://bucket/feats.zarr --json | jq '.faults[].place'",
)
def verify(
    store: StoreArgument,
    quick: Quick = False,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Find and name everything that is wrong with a store; change nothing.

    Recomputes every digest, compares the index with the videos and the header with the parts, and
    accounts for every file where they can be listed.
    Exits with 1 if anything is wrong, with 2 if the store cannot be read or a server fails.
    """
    with handle_errors():
        with progress_bar("videos") as show_done:
            report = check.verify_store(store, quick=quick, num_threads=threads, on_video=show_done)
        if json:
            print_json(json_ready(report))
        else:
            for fault in report.faults:
                say(str(fault))
            _sum_up(report, quick=quick)
    if report.faults:
        raise typer.Exit(SOME_FAILED)


def _sum_up(report: check.VerifyReport, *, quick: bool) -> None:
    how = (
        "with correct sizes" if quick else f"with correct digests ({human_bytes(report.num_bytes)})"
    )
    say(
        f"{report.location}: {counted(report.num_videos, 'video')} {how}, "
        f"{counted(report.num_queries, 'sound query')}, "
        f"{counted(report.num_parts, 'part')}; {report.seconds:.1f} s"
    )
    if not report.listed:
        note(
            "this server lists no folders, so only what the index names was looked at: videos that "
            "it does not name, and files that do not belong here, cannot be known",
            style="yellow",
        )
    if report.num_replaced_parts:
        note(f"parts that others replace, which repair removes: {report.num_replaced_parts}")
    for folder in report.live_runs:
        note(f"a process is writing in {folder}")
    for folder in report.dead_runs:
        note(f"a killed run left unfinished work in {folder}: the next run removes it")
    if report.faults:
        faults = counted(len(report.faults), "fault")
        say(f"{faults}; `r2t store repair` repairs what can be repaired", "red")
    else:
        say("no faults")
