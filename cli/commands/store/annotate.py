"""`r2t store annotate` and `licence`: what is said about videos that are stored already."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer

import r2t.extract
import r2t.store
from r2t.cli.shared import (
    SOME_FAILED,
    Annotations,
    ChangedStore,
    Device,
    Json,
    Offline,
    StoreArgument,
    VideoIds,
    clip_options,
    examples,
    handle_errors,
    json_ready,
    missing_names,
    note,
    note_impossible,
    note_rewordings,
    print_json,
    read_annotation_options,
    read_video_ids,
    say,
)
from r2t.store import change
from r2t.store.errors import ConfigError
from r2t.store.wording import counted


@examples(
    "r2t store annotate feats.zarr --annotations more.csv",
    "r2t store annotate feats.zarr --annotations corrected.jsonl --replace",
)
def annotate(
    store: ChangedStore,
    annotations: Annotations,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace stored queries whose content differs.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="CLIP; by default the one that made the store.")
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="Its weights; by default those that made the store.")
    ] = None,
    device: Device = "auto",
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Add or replace queries of stored videos: CLIP reads the sentences, no video is decoded.

    A sentence that the files word differently (same moments, and the old sentence is not in the
    files) is named; with --replace, the new sentence takes its place. Programs that have the store
    open see the change when they open it again. Annotations of videos that are not stored, or with
    a moment outside their video, are named and left out; the exit status is then 1.
    """
    with handle_errors():
        rows = read_annotation_options(annotations)
        target = r2t.store.FeatureStore.open(store)
        clip = r2t.extract.FrozenClip.matching(
            target,
            clip_options(model, pretrained, device, offline=offline),
        )
        report = r2t.extract.annotate_store(clip, target, rows, replace=replace)
        if json:
            print_json(json_ready(report))
        else:
            say(
                f"{store}: {counted(report.num_new, 'query')} added, "
                f"{report.num_replaced} replaced, "
                f"{report.num_unchanged} unchanged"
            )
        if report.missing_videos:
            note(
                f"left out {counted(sum(report.missing_videos.values()), 'query')} of videos that "
                f"are not stored: {missing_names(report)}",
                style="yellow",
            )
        note_impossible(report)
        if replace:
            for each in report.rewordings:
                note(f"reworded, and the old sentence removed: {each}")
        else:
            note_rewordings(report, store)
    if not report.complete:
        raise typer.Exit(SOME_FAILED)


@examples(
    "r2t store licence feats.zarr",
    'r2t store licence feats.zarr --set "CC BY 4.0"',
    'r2t store licence feats.zarr --set "CC0 1.0" --videos ids.txt',
)
def licence(
    store: StoreArgument,
    text: Annotated[
        str | None, typer.Option("--set", help="The licence to record, as its name or SPDX id.")
    ] = None,
    videos: VideoIds = None,
    json: Json = False,
) -> None:
    """Show the licences of a store's videos, or record one."""
    with handle_errors():
        ids = None
        if videos is not None:
            known: list[str] = r2t.store.FeatureStore.open(store).videos["video_id"].tolist()
            ids = read_video_ids("--videos", videos, known, "stored")
        if text is not None:
            if not text.strip():
                raise ConfigError("--set: the licence is empty")
            count = change.set_licence(store, text.strip(), ids)
            say(f"{store}: recorded for {counted(count, 'video')}")
            return
        found = change.licences(store)
        if ids is not None:
            found = {video_id: found[video_id] for video_id in ids}
        if json:
            print_json({"licences": found})
            return
        counts: Counter[Any] = Counter(found.values())
        for name, count in counts.most_common():
            say(f"{count}\t{name or 'not recorded'}")
