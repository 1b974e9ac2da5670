"""The options of `r2t extract`: from what is typed to what a run takes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from r2t.cli.inputs import parse_frame_rate, read_annotation_options, read_ids
from r2t.cli.ui import named, note
from r2t.store.annotations import Annotation
from r2t.store.errors import ConfigError, VideoError


def frame_rate(fps: str | None, preset: str | None) -> float | Literal["per-video"]:
    """Read `--fps` and `--preset`, of which one may be given."""
    if preset is None:
        return parse_frame_rate(fps or "0.5")
    from r2t.train.presets import preset as find_preset

    rate = find_preset(preset).frame_rate
    if fps is not None and parse_frame_rate(fps) != rate:
        raise ConfigError(f"--preset {preset} is {rate} frames a second, --fps {fps}: give one")
    return rate


def restrict(
    videos: list[Path], annotations: list[Annotation], only: list[str]
) -> tuple[list[Path], list[Annotation]]:
    """Keep the videos with the ids that `--only` gives, and their annotations."""
    wanted = dict.fromkeys(video_id for given in only for video_id in read_ids("--only", given))
    by_id = {path.stem: path for path in videos}
    unknown = [video_id for video_id in wanted if video_id not in by_id]
    if unknown:
        raise ConfigError(
            f"--only: there is no video {named(unknown)} among the {len(by_id)} found"
        )
    return (
        [by_id[video_id] for video_id in wanted],
        [each for each in annotations if each.video_id in wanted],
    )


def videos_in(path: Path) -> list[Path]:
    """Return the videos of a folder, or the one video given."""
    from r2t.extract.frames import find_videos

    if path.is_file():
        return [path]
    if not path.is_dir():
        raise VideoError(f"--videos {path}: there is no such folder or video")
    return find_videos(path)


def annotations_of(videos: Path, given: list[str] | None) -> list[Annotation]:
    """Read the given annotation files, or those beside the videos."""
    from r2t.store.datasets import find_annotations, read_annotations

    if given is None:
        files = find_annotations(videos) if videos.is_dir() else []
        if not files:
            note(f"note: no annotations beside {videos}, so only features of videos are stored")
        return [row for file in files for row in read_annotations(file)]
    return read_annotation_options(given)
