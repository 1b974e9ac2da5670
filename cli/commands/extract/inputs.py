"""The options of `r2t extract`: from what is typed to what an extraction takes."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Literal

import r2t.extract
import r2t.store
from r2t.cli.shared import (
    as_frame_rate,
    note,
    passed_over,
    read_annotation_file,
    read_annotation_options,
    read_video_ids,
)
from r2t.extract import fetch, video
from r2t.store import datasets, publish
from r2t.store.annotations import Annotation
from r2t.store.errors import ConfigError, VideoError
from r2t.store.json_lines import printable
from r2t.store.video_names import VideoNames
from r2t.store.wording import counted, counted_of, named
from r2t.train import run


def frame_rate(fps: str | None, preset: str | None) -> float | Literal["per-video"]:
    """Read `--fps` and `--preset`, of which one may be given."""
    if preset is None:
        return as_frame_rate(fps or "0.5")

    rate = run.find_preset(preset).frame_rate
    if fps is not None and as_frame_rate(fps) != rate:
        raise ConfigError(
            f"--preset {preset} means {rate} frames a second, but --fps is {fps}: give only one"
        )
    return rate


def restrict(
    videos: list[fetch.VideoLocation],
    annotations: list[Annotation],
    only: list[str] | None,
    shard: str | None,
) -> tuple[list[fetch.VideoLocation], list[Annotation]]:
    """Keep the videos that `--only` names, of these the share of `--shard`; and their annotations.

    Says how large the shards are.
    """
    if only is not None:
        by_id = {path.stem: path for path in videos}
        wanted = {name: by_id[name] for name in read_video_ids("--only", only, by_id, "found")}
        videos = list(wanted.values())
        annotations = annotations_about(annotations, VideoNames(wanted))
    if shard is None:
        return videos, annotations
    share = r2t.extract.read_shard(shard, os.environ)
    sizes = r2t.extract.shard_sizes((path.stem for path in videos), share.count)
    lowest, highest = min(sizes), max(sizes)
    note(
        f"shard {share}: {counted_of(sizes[share.number - 1], len(videos), 'video')}; of "
        f"{counted(share.count, 'shard')} the smallest has {lowest:,}, the largest {highest:,}"
    )
    return r2t.extract.take_shard(share, videos, annotations)


def annotations_about(annotations: list[Annotation], names: VideoNames) -> list[Annotation]:
    """Keep the annotations of some videos."""
    known = {name: names.find(name) for name in {each.video_id for each in annotations}}
    return [each for each in annotations if known[each.video_id] is not None]


def videos_in(given: str, *, follow_links: bool) -> list[fetch.VideoLocation]:
    """Return the videos of a folder or of a list of URLs, or the one video given."""
    path = Path(given)
    if fetch.is_listing(given) and not path.is_dir():
        return [*fetch.list_videos(given)]
    if path.is_file():
        if path.suffix.lower() in datasets.known_suffixes():
            raise VideoError(
                f"--videos {path}: this holds annotations by its name, not a video; give it as "
                "--annotations, and the folder of the videos as --videos"
            )
        return [path]
    if not path.is_dir():
        raise VideoError(f"--videos {path}: there is no such folder or video")
    return [*video.find_videos(path, follow_links=follow_links)]


def annotations_of(videos: str, given: list[str] | None) -> list[Annotation]:
    """Read the given annotation files, or those beside the videos; of one video, its own rows."""
    folder = Path(videos)
    if fetch.is_listing(videos) and not folder.is_dir():
        if given is None:
            note("note: no --annotations are given, so only features of videos are stored")
        return read_annotation_options(given or [])
    rows = _rows_beside(folder) if given is None else read_annotation_options(given)
    if folder.is_dir():
        return rows
    own = annotations_about(rows, VideoNames([folder.stem]))
    if len(own) < len(rows):
        others = counted(len(rows) - len(own), "query")
        note(f"note: {others} of other videos than {videos} left out")
    return own


def _rows_beside(videos: Path) -> list[Annotation]:
    survey = datasets.survey_folder(videos if videos.is_dir() else videos.parent)
    for path, reason in survey.passed_over.items():
        note(f"passed over: {printable(path)}: {reason}", style="yellow")
    if not survey.annotations:
        note(
            f"note: no annotations in {videos}{passed_over(survey)}, so only features of "
            "videos are stored"
        )
    elif survey.others:
        names = named(printable(path.name) for path in survey.others)
        note(f"note: no annotations, by their kind: {names}")
    return [row for file in survey.annotations for row in read_annotation_file(file)]


def require_target(store: str, model: str, config: r2t.extract.ExtractConfig) -> None:
    """Refuse a place that cannot be added to, as far as is known before CLIP is downloaded.

    What the weights decide is compared when they are here.
    """
    if not publish.publisher_at(store).exists():  # a bucket that cannot be used says so
        return

    opened = r2t.store.FeatureStore.open(store)
    opened.header.require_current(store)
    name = opened.spec.model if Path(model).is_dir() else model
    opened.spec.require_equal(
        dataclasses.replace(
            opened.spec, model=name, frame_rate=config.frame_rate, dtype=config.dtype
        ),
        action=f"add to {store}, which was made with other settings",
        names=(store, "this extraction"),
    )
