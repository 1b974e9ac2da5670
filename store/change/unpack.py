"""A set of zips made a folder again, zip by zip, so that only one must be here at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from r2t.store.change.merge import (
    MergeReport,
    StoreSelection,
    add_query_rows,
    bring_all,
    read_queries,
    require_agreement,
    require_like_embeddings,
)
from r2t.store.feature_store import FeatureStore
from r2t.store.format import VideosZip, ZipManifest, node_name
from r2t.store.progress import OnProgress, no_progress

Fetch = Callable[[VideosZip], None]
"""Called with a zip of videos before it is read, to put it into its place."""


def unpack_set(
    folder: Path,
    into: str | Path,
    manifest: ZipManifest,
    *,
    fetch: Fetch,
    release: Fetch,
    facts: Mapping[str, Any],
    on_video: OnProgress = no_progress,
) -> MergeReport:
    """Bring all videos and queries of a set into a local store, which is made if need be.

    `folder` holds the manifest and the first zip. The others are asked for with `fetch` when a
    video of theirs is not in the target yet, and given up with `release`. `facts` are added to the
    provenance of a store that is made. Every digest is proved; the same call again goes on after an
    interruption. Raises as `merge_stores` does.
    """
    source = StoreSelection.open(folder)
    first = source.store
    provenance = {**first.provenance, **facts}
    target = FeatureStore.create(into, first.spec, provenance, embedding=first.embedding)
    require_like_embeddings([target, first])
    require_agreement([target, first])
    rows = {node_name(row.video_id): row for row in source.rows}
    held = {node for zipped in manifest.videos for node in zipped.nodes}
    failures = {
        row.video_id: "no zip of the set holds it" for node, row in rows.items() if node not in held
    }
    counts = [0, 0]
    with target.writer() as writer:
        for zipped in manifest.videos:
            own = [rows[node] for node in zipped.nodes if node in rows]
            is_here = all(target.has_video(row.video_id) for row in own)
            if not is_here:
                fetch(zipped)
            before = sum(counts) + len(failures)
            report = bring_all(
                target,
                writer,
                [replace(source, rows=own)],
                link=False,
                quick=False,
                num_threads=None,
                on_video=_shifted(on_video, before, len(rows)),
            )
            counts[0] += report.num_videos
            counts[1] += report.num_present
            failures |= report.failures
            if not is_here:
                release(zipped)
        num_queries = add_query_rows(writer, read_queries(first, failures))
    return MergeReport(counts[0], 0, counts[1], num_queries, failures)


def _shifted(on_video: OnProgress, before: int, total: int) -> OnProgress:
    def show(done: float, _: float) -> None:
        on_video(before + done, total)

    return show
