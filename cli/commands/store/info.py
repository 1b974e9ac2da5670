"""`r2t store info`: what a store holds."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

import r2t.store
from r2t.cli.shared import (
    Json,
    StoreArgument,
    answers,
    cell,
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
from r2t.store.wording import FEW_NAMES, counted, named

MANY_PARTS = 100  # opening takes about two requests for each


@examples(
    "r2t store info feats.zarr",
    "r2t store info int8.zarr --stats",
    "r2t store info s3://bucket/feats.zarr --json | jq .splits",
)
def info(
    store: StoreArgument,
    stats: Annotated[
        bool,
        typer.Option(
            "--stats", help="For an int8 store: the error that eight bits cause, by layer."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Show what a store holds: its settings, counts, bytes, and what is missing."""
    with handle_errors():
        if stats:
            _show_stats(store, json=json)
            return
        summary = summarise_store(r2t.store.FeatureStore.open(store))
        if json:
            print_json(summary)
        else:
            _print_summary(summary)


def summarise_store(store: r2t.store.FeatureStore) -> dict[str, Any]:
    """Return what `info` shows, as JSON values.

    Videos count as stored if the index names them; `indexed_but_not_there` is None where looking
    would take many requests. `parts` are those that opening reads. `embedding` says which
    embeddings every video and query has, None if they have none. `bytes` are those of the videos'
    tokens.
    """
    videos, queries = store.videos, store.queries
    stored = set(videos["video_id"].tolist())
    annotated = set(queries["video_id"].tolist())
    return {
        "location": store.location,
        "format_version": store.header.format_version,
        "spec": store.spec.to_dict(),
        "embedding": store.embedding and asdict(store.embedding),
        "provenance": store.provenance,
        "card": store.header.card or {},
        "videos": len(videos),
        "frames": int(videos["num_frames"].sum()),
        "hours": float(videos["duration_seconds"].sum()) / 3600,
        "bytes": store.num_bytes(),
        "parts": store.num_parts(),
        "queries": len(queries),
        "splits": {
            split: {
                "queries": counts.num_queries,
                "videos": counts.num_videos,
                "moments": counts.num_moments,
            }
            for split, counts in check.count_splits(store).items()
        },
        "domains": sorted(set(queries["domain"].tolist()) - {""}),
        "indexed_but_not_there": store.missing_videos(),
        "annotated_without_features": sorted(annotated - stored),
        "features_without_annotations": sorted(stored - annotated),
    }


def _print_summary(summary: dict[str, Any]) -> None:
    table = Table(title=cell(summary["location"]), show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("format version", str(summary["format_version"]))
    for name, value in summary["spec"].items():
        table.add_row(name, cell(value))
    table.add_row("embeddings", _embeddings(summary))
    table.add_section()
    for name, value in {**summary["provenance"], **summary["card"]}.items():
        table.add_row(name, cell(value))
    table.add_section()
    table.add_row("videos", f"{summary['videos']:,}, {summary['hours']:.3g} hours")
    table.add_row("frames", f"{summary['frames']:,}")
    table.add_row("size of tokens", human_bytes(summary["bytes"]))
    for split, counts in summary["splits"].items():
        table.add_row(
            split,
            f"{counted(counts['queries'], 'query')} of {counted(counts['videos'], 'video')}, "
            f"{counted(counts['moments'], 'moment')}",
        )
    parts: dict[str, int] = summary["parts"]
    table.add_row("parts", f"{parts['index']:,} of the index, {parts['queries']:,} of queries")
    if summary["domains"]:
        table.add_row("domains", cell(", ".join(summary["domains"])))
    table.add_section()
    for name in ("annotated_without_features", "features_without_annotations"):
        table.add_row(name.replace("_", " "), cell(_listed(summary[name])))
    lost: list[str] = summary["indexed_but_not_there"] or []
    if lost:
        table.add_row("indexed but not there", cell(_listed(lost)))
    answers().print(table)
    if sum(parts.values()) > MANY_PARTS:
        note(
            f"opening reads {counted(sum(parts.values()), 'part')}, by two requests each or more; "
            f"`r2t store repair {summary['location']} --compact` joins them",
            style="yellow",
        )
    if lost:
        note(
            f"{counted(len(lost), 'video')} of the index are not there: if this is a copy, it was "
            f"not finished: copy it again; otherwise `r2t store repair {summary['location']}` "
            "lists what to extract again",
            style="yellow",
        )


def _embeddings(summary: dict[str, Any]) -> str:
    embedding = summary["embedding"]
    if embedding is not None:
        return f"of every frame and sentence, {embedding['width']} wide, {embedding['rule']}"
    return "none; `r2t store upgrade` makes them" if summary["format_version"] == 1 else "none"


def _listed(video_ids: list[str]) -> str:
    return f"{len(video_ids)}: {named(video_ids, FEW_NAMES)}" if video_ids else "none"


def _show_stats(store: str, *, json: bool) -> None:
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
