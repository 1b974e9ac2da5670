"""`r2t store remove`: videos and sentences taken out of a store."""

from __future__ import annotations

from typing import Annotated

import typer

from r2t.cli.shared import (
    ChangedStore,
    Json,
    examples,
    handle_errors,
    json_ready,
    print_json,
    progress_bar,
    read_ids,
    say,
)
from r2t.store import change
from r2t.store.wording import counted


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
