"""What `r2t extract` says when it is done: lines, or JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import r2t.extract
from r2t.cli.shared import missing_names, note, note_impossible, note_rewordings
from r2t.store.wording import counted, named

_MOST_CHANGED = 20  # videos that are named


def show_extraction(
    report: r2t.extract.ExtractReport, store: str, show: Callable[[str], None]
) -> None:
    """Print by `show` what was done, and as notes everything that is missing, by name."""
    counts = {
        "skipped (stored already)": report.skipped,
        "changed since they were stored": report.changed,
        "failed": report.failed,
        "refused": report.refused,
        "left out (no labels)": report.unlabelled,
        "passed over (failed before)": report.quarantined,
    }
    parts = [f"{len(report.done)} extracted"]
    parts += [f"{len(videos)} {what}" for what, videos in counts.items() if videos]
    queries = counted(report.num_new_queries, "new query")
    if report.num_known_queries:
        queries += f", {report.num_known_queries} stored already"
    show(
        f"{store}: videos: {', '.join(parts)}; {queries}; "
        f"{counted(report.num_frames, 'frame')} in {report.seconds:.1f} s"
    )
    _note_stages(report)
    _note_missing(report)
    if report.num_withheld_queries:
        note(
            "not stored, because their videos are not: "
            f"{counted(report.num_withheld_queries, 'query')}",
            style="yellow",
        )
    if report.missing_videos:
        note(f"annotated, but there is no such video: {missing_names(report)}")
    note_impossible(report)
    note_rewordings(report, store)
    if report.interrupted:
        note("interrupted; run the same command to resume", style="yellow")


def _note_missing(report: r2t.extract.ExtractReport) -> None:
    """Name the videos whose features are not in the store as they should be."""
    for reason in report.refused.values():
        note(f"refused: {reason}", style="red")
    if report.unlabelled:
        note(without_rate(report.unlabelled), style="yellow")
    if report.failed:
        note(f"failed, and listed in {report.quarantine_path}: {named(report.failed)}")
    for left in report.left:
        note(
            f"left for another run: {counted(left.num_videos, 'video')} of {left.name}, where one "
            f"after another cannot be fetched ({left.reason}); run the same command again",
            style="red",
        )
    if report.changed:
        note(
            "changed since they were stored; add --update to extract them again: "
            f"{'; '.join(islice(report.changed.values(), _MOST_CHANGED))}"
            + (" …" if len(report.changed) > _MOST_CHANGED else ""),
            style="red",
        )
    if report.quarantined:
        note(f"passed over; add --retry-failed to try them again: {named(report.quarantined)}")


def without_rate(video_ids: Sequence[str]) -> str:
    """Say why videos are left out that have no frame rate of their own."""
    return (
        "left out, because no annotation labels their clips, which would give their frame rate: "
        f"{named(video_ids)}"
    )


def _note_stages(report: r2t.extract.ExtractReport) -> None:
    if report.bottleneck is not None:
        paces = (
            f"{stage.name} {stage.frames_per_second:.1f} frames/s by {stage.num_lanes} "
            f"(busy {stage.utilisation(report.seconds):.0%})"
            for stage in report.stages
        )
        note(f"bound by {report.bottleneck.name}: {', '.join(paces)}")


def extraction_json(report: r2t.extract.ExtractReport, store: str) -> dict[str, Any]:
    """Return all of a report as JSON values."""
    return {
        "store": store,
        "complete": report.complete,
        **{
            name: str(value) if isinstance(value, Path) else value
            for name, value in dataclasses.asdict(report).items()
        },
        "bottleneck": report.bottleneck.name if report.bottleneck else None,
        "stages": {
            stage.name: {
                "num_frames": stage.num_frames,
                "busy_seconds": stage.busy_seconds,
                "num_lanes": stage.num_lanes,
                "frames_per_second": stage.frames_per_second,
                "utilisation": stage.utilisation(report.seconds),
            }
            for stage in report.stages
        },
    }
