"""`r2t extract --dry-run`: what an extraction would take, as a table or as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

from rich.table import Table

import r2t.extract
import r2t.store
from r2t.cli.commands.extract.report import without_rate
from r2t.cli.shared import answers, cell, human_bytes, human_seconds, note, print_json, progress_bar
from r2t.extract import fetch, run
from r2t.store import publish
from r2t.store.annotations import Annotation
from r2t.store.video_names import VideoNames, match_videos
from r2t.store.wording import counted


def show_plan(
    config: r2t.extract.ExtractConfig,
    clip: r2t.extract.FrozenClip,
    store: str,
    videos: Sequence[fetch.VideoLocation],
    annotations: Sequence[Annotation],
    *,
    json: bool,
) -> bool:
    """Print what extracting would take, and return whether all videos could be measured.

    `clip` may have random weights.
    """
    opened = _open(config, clip, store)
    given, refused = r2t.extract.name_videos(
        videos, VideoNames(opened.videos["video_id"] if opened else ())
    )
    stored = {name for name in given if opened and opened.has_video(name)}
    paths = {name: path for name, path in given.items() if name not in stored}
    annotations = match_videos(annotations, VideoNames(given))
    rates = r2t.extract.frame_rates(config, annotations, list(paths))
    unlabelled = [name for name in paths if name not in rates]
    jobs = [run.VideoJob(name, paths[name], rate) for name, rate in rates.items()]
    with progress_bar("videos", len(jobs)) as show_done:
        found = r2t.extract.plan_extraction(config, clip, jobs, show_done)
    unreadable = {**refused, **found.unreadable}
    free = publish.publisher_at(store).free_bytes()
    num_queries = _count_new(annotations, stored | (rates.keys() - unreadable.keys()), opened)
    num_query_bytes = r2t.extract.query_bytes(clip, num_queries)
    if json:
        print_json(
            {
                "store": store,
                "num_stored": len(stored),
                "num_videos": found.num_videos,
                "num_measured": len(found.lengths),
                "num_frames": found.num_frames,
                "duration_seconds": found.duration_seconds,
                "unreadable": unreadable,
                "unlabelled": unlabelled,
                "num_queries": num_queries,
                "query_bytes": num_query_bytes,
                "num_bytes": found.num_bytes,
                "free_bytes": free,
                "tiers": [dataclasses.asdict(tier) for tier in found.tiers],
                **_times(found),
            }
        )
        return not unreadable
    _print_plan(found, config, clip, (num_queries, num_query_bytes), len(stored))
    if free is not None and found.num_bytes + num_query_bytes > free:
        note(
            f"warning: {human_bytes(found.num_bytes)} of features do not fit: "
            f"{human_bytes(free)} are free at {store}",
            style="yellow",
        )
    if unlabelled:
        note(without_rate(unlabelled), style="yellow")
    for name, reason in unreadable.items():
        note(f"would fail: {name}: {reason}", style="red")
    return not unreadable


def _print_plan(
    found: r2t.extract.ExtractPlan,
    config: r2t.extract.ExtractConfig,
    clip: r2t.extract.FrozenClip,
    queries: tuple[int, int],
    num_stored: int,
) -> None:
    """Print a plan; `queries` are their number and bytes."""
    num_queries, query_bytes = queries
    answers().print(
        cell(
            f"{counted(found.num_videos, 'video')}, {human_seconds(found.duration_seconds)}: "
            f"{counted(found.num_frames, 'frame')}; {counted(num_queries, 'query')} "
            f"(about {human_bytes(query_bytes)}); {num_stored} stored already"
        ),
        _table(found, config.dtype, len(clip.vision_layers)),
        cell(_time_line(found, clip, config.num_workers)),
        soft_wrap=True,
    )
    if found.scale > 1:
        note(f"estimated from {counted(len(found.lengths), 'video')}, which were fetched for it")


def _count_new(
    annotations: Sequence[Annotation],
    video_ids: Collection[str],
    store: r2t.store.FeatureStore | None,
) -> int:
    """Count the queries that will be stored: those of stored videos that are not there yet."""
    known = set(store.queries["query_id"]) if store else set[str]()
    new = {each.query_id for each in annotations if each.video_id in video_ids}
    return len(new - known)


def _open(
    config: r2t.extract.ExtractConfig, clip: r2t.extract.FrozenClip, store: str
) -> r2t.store.FeatureStore | None:
    """Open the store, if there is one; its settings must be the same."""
    if not publish.publisher_at(store).exists():
        return None

    opened = r2t.store.FeatureStore.open(store)
    ours = clip.spec(config.frame_rate, config.dtype)
    unknown = {name: getattr(opened.spec, name) for name in ("weights_sha256", "mean", "std")}
    opened.spec.require_equal(
        dataclasses.replace(ours, **unknown),
        action=f"add to {store}",
        names=(store, "this extraction"),
    )
    return opened


def _table(found: r2t.extract.ExtractPlan, dtype: str, num_layers: int) -> Table:
    table = Table("layers", "tokens", "float16", "int8", title="bytes of features")
    for column in table.columns[2:]:
        column.justify = "right"
    tiers = {(tier.num_layers, tier.cls_only, tier.dtype): tier.num_bytes for tier in found.tiers}
    for layers, cls_only in dict.fromkeys(key[:2] for key in tiers):
        sizes = (human_bytes(tiers[layers, cls_only, kind]) for kind in ("float16", "int8"))
        chosen = layers == num_layers and not cls_only
        marked = [
            f"{size} ← this extraction" if chosen and kind == dtype else size
            for size, kind in zip(sizes, ("float16", "int8"), strict=True)
        ]
        table.add_row(f"last {layers}", "CLS only" if cls_only else "all", *marked)
    return table


def _time_line(
    found: r2t.extract.ExtractPlan, clip: r2t.extract.FrozenClip, num_workers: int
) -> str:
    if found.seconds is None or found.decode_seconds is None or found.encode_seconds is None:
        return "no video could be decoded, so there is no estimate of the time"
    return (
        f"about {human_seconds(found.seconds)} on {clip.device} in {clip.precision}; alone, "
        f"decoding ({counted(num_workers, 'process')}) takes {human_seconds(found.decode_seconds)} "
        f"and CLIP {human_seconds(found.encode_seconds)}"
    )


def _times(found: r2t.extract.ExtractPlan) -> dict[str, Any]:
    names = ("seconds", "decode_seconds", "encode_seconds")
    return {name: getattr(found, name) for name in names}
