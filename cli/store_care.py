"""`r2t store verify`, `repair` and `coverage`: whether a store is whole, and making it so."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from r2t.cli.ui import SOME_FAILED, growing_bar, handle_errors, human_bytes, note, print_json

if TYPE_CHECKING:
    from r2t.store.verify import VerifyReport

VERIFY_EXAMPLES = (
    "Examples:\n\n"
    "  r2t store verify feats.zarr\n\n"
    "  r2t store verify feats.zarr --quick\n\n"
    "  r2t store verify s3://bucket/feats.zarr --json | jq '.faults[].place'"
)


def verify(
    store: Annotated[str, typer.Argument(help="The feature store: a folder, a zip or a URL.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Check sizes and shapes, but do not read the tokens.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Videos to check at a time; by default one a core.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Find and name all that is wrong with a store; change nothing.

    Computes every digest anew, compares the index with the videos, and accounts for every file.
    Exits with 1 if anything is wrong.
    """
    with handle_errors():
        from r2t.store.verify import verify as look

        with growing_bar("videos") as show_done:
            report = look(store, quick=quick, num_threads=threads, on_video=show_done)
        if json:
            print_json(_as_json(report))
        else:
            for fault in report.faults:
                typer.echo(str(fault))
            _sum_up(report, quick=quick)
    if report.faults:
        raise typer.Exit(SOME_FAILED)


def _sum_up(report: VerifyReport, *, quick: bool) -> None:
    how = "whose sizes fit" if quick else f"whose digests hold ({human_bytes(report.num_bytes)})"
    note(
        f"{report.location}: {report.num_videos} videos {how}, {report.num_queries} sound queries, "
        f"{report.num_parts} parts; {report.seconds:.1f} s"
    )
    if report.num_replaced_parts:
        note(f"{report.num_replaced_parts} parts are replaced by others; repair removes them")
    for folder in report.live_runs:
        note(f"a run is writing in {folder}")
    if report.faults:
        note(f"{len(report.faults)} faults; `r2t store repair` mends what can be mended", "red")


def _as_json(report: VerifyReport) -> dict[str, Any]:
    return {
        **dataclasses.asdict(report),
        "live_runs": [str(folder) for folder in report.live_runs],
    }
