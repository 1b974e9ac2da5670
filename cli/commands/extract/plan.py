"""`r2t extract --dry-run`: what a run would take, as a table or as JSON."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from r2t.cli.commands.extract.report import without_rate
from r2t.cli.shared import answers, cell, human_bytes, human_seconds, note, print_json, progress_bar
from r2t.store.annotations import Annotation
from r2t.store.errors import StoreError
from r2t.store.video_names import VideoNames, match_videos
from r2t.store.wording import counted

if TYPE_CHECKING:
    from r2t.extract.clip import FrozenClip
    from r2t.extract.config import ExtractConfig
    from r2t.extract.plan import ExtractPlan
    from r2t.store.feature_store import FeatureStore


def show_plan(
    config: ExtractConfig,
    clip: FrozenClip,
    store: str,
    videos: Sequence[Path],
    annotations: Sequence[Annotation],
    *,
    json: bool,
) -> bool:
    """Print what extracting would take, and return whether all videos could be measured.

    `clip` may have random weights.
    """
    from r2t.extract.pipeline import frame_rates, name_videos
    from r2t.extract.plan import plan_extraction, query_bytes
    from r2t.extract.run import VideoJob

    opened = _open(config, clip, store)
    given, refused = name_videos(videos, VideoNames(opened.videos["video_id"] if opened else ()))
    stored = {name for name in given if opened and opened.has_video(name)}
    paths = {name: path for name, path in given.items() if name not in stored}
    annotations = match_videos(annotations, VideoNames(given))
    rates = frame_rates(config, annotations, list(paths))
    unlabelled = [name for name in paths if name not in rates]
    jobs = [VideoJob(name, paths[name], rate) for name, rate in rates.items()]
    with progress_bar("videos", len(jobs)) as show_done:
        found = plan_extraction(config, clip, jobs, show_done)
    unreadable = {**refused, **found.unreadable}
    free = shutil.disk_usage(_existing_parent(Path(store))).free
    num_query_bytes = query_bytes(clip, len(annotations))
    if json:
        print_json(
            {
                "store": store,
                "num_stored": len(stored),
                "num_videos": len(found.lengths),
                "num_frames": found.num_frames,
                "duration_seconds": found.duration_seconds,
                "unreadable": unreadable,
                "unlabelled": unlabelled,
                "num_queries": len(annotations),
                "query_bytes": num_query_bytes,
                "num_bytes": found.num_bytes,
                "free_bytes": free,
                "tiers": [dataclasses.asdict(tier) for tier in found.tiers],
                **_times(found),
            }
        )
        return not unreadable
    queries = f"{counted(len(annotations), 'query')} (about {human_bytes(num_query_bytes)})"
    answers().print(
        cell(
            f"{counted(len(found.lengths), 'video')}, {human_seconds(found.duration_seconds)}: "
            f"{counted(found.num_frames, 'frame')}; {queries}; {len(stored)} stored already"
        ),
        _table(found, config.dtype, len(clip.vision_layers)),
        cell(_time_line(found, clip, config.num_workers)),
        soft_wrap=True,
    )
    if found.num_bytes + num_query_bytes > free:
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


def _open(config: ExtractConfig, clip: FrozenClip, store: str) -> FeatureStore | None:
    """Open the store, if there is one; its settings must be the same."""
    if not Path(store).exists():
        return None
    from r2t.store.feature_store import FeatureStore

    opened = FeatureStore.open(store)
    ours = clip.spec(config.frame_rate, config.dtype)
    unknown = {name: getattr(opened.spec, name) for name in ("weights_sha256", "mean", "std")}
    opened.spec.require_equal(
        dataclasses.replace(ours, **unknown), action=f"add to {store}", names=(store, "this run")
    )
    return opened


def _existing_parent(path: Path) -> Path:
    for parent in (path.absolute(), *path.absolute().parents):
        if parent.exists():
            return parent
    raise StoreError(f"{path}: there is no such place")


def _table(found: ExtractPlan, dtype: str, num_layers: int) -> Table:
    table = Table("layers", "tokens", "float16", "int8", title="bytes of features")
    for column in table.columns[2:]:
        column.justify = "right"
    tiers = {(tier.num_layers, tier.cls_only, tier.dtype): tier.num_bytes for tier in found.tiers}
    for layers, cls_only in dict.fromkeys(key[:2] for key in tiers):
        sizes = (human_bytes(tiers[layers, cls_only, kind]) for kind in ("float16", "int8"))
        chosen = layers == num_layers and not cls_only
        marked = [
            f"{size} ← this run" if chosen and kind == dtype else size
            for size, kind in zip(sizes, ("float16", "int8"), strict=True)
        ]
        table.add_row(f"last {layers}", "CLS only" if cls_only else "all", *marked)
    return table


def _time_line(found: ExtractPlan, clip: FrozenClip, num_workers: int) -> str:
    if found.seconds is None or found.decode_seconds is None or found.encode_seconds is None:
        return "no video could be decoded, so there is no estimate of the time"
    return (
        f"about {human_seconds(found.seconds)} on {clip.device} in {clip.precision}; alone, "
        f"decoding ({counted(num_workers, 'process')}) takes {human_seconds(found.decode_seconds)} "
        f"and CLIP {human_seconds(found.encode_seconds)}"
    )


def _times(found: ExtractPlan) -> dict[str, Any]:
    names = ("seconds", "decode_seconds", "encode_seconds")
    return {name: getattr(found, name) for name in names}
