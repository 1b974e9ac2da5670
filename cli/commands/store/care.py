"""`r2t store verify`, `repair`, `coverage` and `remove`: checking a store, and mending it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import r2t.store
from r2t.cli.shared import (
    SOME_FAILED,
    ChangedStore,
    Json,
    Quick,
    StoreArgument,
    Threads,
    answers,
    examples,
    handle_errors,
    human_bytes,
    json_ready,
    note,
    print_json,
    progress_bar,
    read_annotation_options,
    read_ids,
    say,
)
from r2t.store import change, check
from r2t.store.files import write_whole
from r2t.store.json_lines import id_line
from r2t.store.sources import is_url
from r2t.store.wording import counted, named


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


def show_stats(store: str, *, json: bool) -> None:
    """Print the error of an int8 store's tokens, a line for each layer."""
    with progress_bar("videos", len(r2t.store.FeatureStore.open(store).videos)) as show_done:
        found = check.quantization_stats(store, on_video=show_done)
    if json:
        print_json(json_ready(found))
        return
    table = Table(title="error of a token", title_justify="left")
    for name in ("layer", "relative L2, mean", "worst", "1 - cosine, mean", "worst"):
        table.add_column(name, justify="right")
    columns = (
        found.relative_l2_mean,
        found.relative_l2_max,
        found.cosine_distance_mean,
        found.cosine_distance_max,
    )
    for layer, row in zip(found.layers, zip(*columns, strict=True), strict=False):
        table.add_row(str(layer), *(f"{value:.2g}" for value in row))
    answers().print(table)
    videos = counted(found.num_videos, "video")
    say(f"{videos}; without a recorded error: {found.num_videos_without}")


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
    behind is deleted. What the index records of a video is restored from it.
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


@examples(
    "r2t store coverage feats.zarr",
    "r2t store coverage feats.zarr --annotations qvhighlights_val.jsonl --list missing.txt",
)
def coverage(
    store: StoreArgument,
    annotations: Annotated[
        list[str] | None,
        typer.Option(
            help="Annotation file, or split=FILE, to compare with; may be repeated. By default the "
            "queries in the store."
        ),
    ] = None,
    list_file: Annotated[
        Path | None,
        typer.Option(
            "--list", help="Write the videos that lack features here, for `r2t extract --only`."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Name annotated videos that lack features, and stored videos without annotations.

    Exits with 1 if there are any.
    """
    with handle_errors():
        rows = None if annotations is None else read_annotation_options(annotations)
        found = check.store_coverage(r2t.store.FeatureStore.open(store), rows)
        if list_file is not None:
            absent = found.annotated_without_features
            write_whole(list_file, "".join(f"{id_line(name)}\n" for name in absent))
        if json:
            print_json({"complete": found.complete, **json_ready(found)})
        else:
            _tell_coverage(found, {row.query_id: row.name for row in rows or ()})
    if not found.complete:
        raise typer.Exit(SOME_FAILED)


def _tell_coverage(found: check.Coverage, names: Mapping[str, str]) -> None:
    for video_id, num_queries in found.annotated_without_features.items():
        say(f"no features: {video_id} ({counted(num_queries, 'query')})")
    for video_id in found.features_without_annotations:
        say(f"no annotations: {video_id}")
    for query_id in found.queries_without_features:
        say(f"query not stored: {names[query_id]}")
    say(
        f"{counted(found.num_annotated_videos, 'annotated video')} with "
        f"{counted(found.num_queries, 'query')}, {found.num_stored_videos} stored; without "
        f"features: {len(found.annotated_without_features)}, without annotations: "
        f"{len(found.features_without_annotations)}, queries not stored: "
        f"{len(found.queries_without_features)}"
    )


@examples(
    "r2t store remove feats.zarr 3tX1ppNwvB0",
    "r2t store remove feats.zarr takedown.txt",
)
def remove(
    store: ChangedStore,
    ids: Annotated[
        list[str],
        typer.Argument(help="Ids of videos or of queries, or files that list ids, one per line."),
    ],
    keep_queries: Annotated[
        bool, typer.Option("--keep-queries", help="Leave their sentences in the store.")
    ] = False,
    json: Json = False,
) -> None:
    """Remove videos from a store, with the sentences about them, or single sentences by query id.

    An id that both a video and a query have is taken to mean the video.

    The next `r2t extract` brings them back if their files are still in its folder. A store that
    was merged by hard links from this one keeps its own.
    """
    with handle_errors():
        names = [name for given in ids for name in read_ids("IDS", given)]
        videos, queries = change.sort_ids(store, names)
        with progress_bar("videos", len(videos)) as show_done:
            report = change.remove_videos(
                store, videos, query_ids=queries, keep_queries=keep_queries, on_video=show_done
            )
        if json:
            print_json(json_ready(report))
        else:
            removed = counted(report.num_videos, "video")
            say(f"{store}: removed {removed}, {counted(report.num_queries, 'query')}")
