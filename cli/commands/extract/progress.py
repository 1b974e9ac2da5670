"""An extraction while it runs: its cluster, its pace, and each video that fails."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import r2t.extract
import r2t.store
from r2t.cli.shared import note, progress_bar
from r2t.extract import fetch, run
from r2t.store.annotations import Annotation
from r2t.store.wording import counted


@contextmanager
def announced_cluster(
    address: str | None, clip_arguments: dict[str, Any]
) -> Generator[run.Cluster | None]:
    """Connect to the cluster of `--dask` and say where its dashboard is; None without one."""
    if address is None:
        yield None
        return
    with run.open_cluster(address, clip_arguments) as cluster:
        place = f"; dashboard: {cluster.dashboard}" if cluster.dashboard else ""
        note(f"cluster: {counted(cluster.num_workers, 'worker')}{place}")
        yield cluster


def watch_extraction(
    config: r2t.extract.ExtractConfig,
    clip: r2t.extract.FrozenClip,
    store: r2t.store.FeatureStore,
    videos: Sequence[fetch.VideoLocation],
    annotations: Sequence[Annotation],
    cluster: run.Cluster | None,
) -> r2t.extract.ExtractReport:
    """Extract under a progress bar, naming videos as they fail."""
    began = time.monotonic()
    with progress_bar("videos", len(videos)) as show_done:

        def show_checked(done: float, _: float) -> None:
            show_done(done, len(videos), "comparing files with what is stored")

        def show(progress: run.ExtractProgress) -> None:
            num_before = len(videos) - progress.num_videos
            done = progress.num_finished + progress.part_finished
            pace = _pace(progress.num_frames, progress.stages, time.monotonic() - began)
            show_done(num_before + done, len(videos), pace)
            if progress.failed:
                note(f"failed: {progress.failed[0]}: {progress.failed[1]}", style="red")

        return r2t.extract.extract_videos(
            config,
            clip,
            store,
            videos,
            annotations,
            show,
            cluster=cluster,
            on_checked=show_checked,
        )


def _pace(num_frames: int, stages: Sequence[run.Stage], seconds: float) -> str:
    slowest = run.busiest_stage(stages)
    if slowest is None:
        return ""
    return f"{num_frames / seconds:.1f} frames/s, bound by {slowest.name}"
