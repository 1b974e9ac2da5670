"""`r2t store coverage`: which annotated videos lack features, and the other way round."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

import r2t.store
from r2t.cli.shared import (
    SOME_FAILED,
    Json,
    StoreArgument,
    examples,
    handle_errors,
    json_ready,
    print_json,
    read_annotation_options,
    say,
)
from r2t.store import check
from r2t.store.files import write_whole
from r2t.store.json_lines import id_line
from r2t.store.wording import counted


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
