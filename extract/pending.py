"""Which videos an extraction has to do: their ids and rates, and what became of them before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

from r2t.extract.config import ExtractConfig
from r2t.extract.fetch import VideoLocation
from r2t.extract.run import VideoJob
from r2t.extract.video import file_sha256
from r2t.store.annotations import Annotation
from r2t.store.change import remove_videos
from r2t.store.errors import ConfigError, StoreError, VideoError
from r2t.store.feature_store import FeatureStore
from r2t.store.format import node_name
from r2t.store.json_lines import numbered_lines, printable, to_json_lines
from r2t.store.parallel import map_threads
from r2t.store.progress import OnProgress, no_progress
from r2t.store.publish import file_beside, publisher_at
from r2t.store.schema import PER_VIDEO
from r2t.store.video_names import VideoNames, require_utf8_name

LOOKS_AT_ONCE = 16
"""How many videos to look up at a time: a bucket is slow to answer, but answers many at once."""


@dataclass(frozen=True)
class SortedVideos:
    """What an extraction does with each of its videos.

    `jobs` are extracted. `skipped` are stored already, `changed` too, but of another file than is
    there now, with what differs. `quarantined` failed before, with their reasons, and `unlabelled`
    have no frame rate; both are left out.
    """

    jobs: tuple[VideoJob, ...]
    skipped: tuple[str, ...]
    changed: Mapping[str, str]
    quarantined: Mapping[str, str]
    unlabelled: tuple[str, ...]


def sort_videos(
    config: ExtractConfig,
    store: FeatureStore,
    videos: Mapping[str, VideoLocation],
    annotations: Sequence[Annotation],
    quarantine: Quarantine,
    on_checked: OnProgress = no_progress,
) -> SortedVideos:
    """Sort videos, given by id, by what is to be done; with `config.update` drop changed ones.

    `on_checked` is called with how many of the stored videos have been compared with their files.
    """
    there = map_threads(store.has_video, list(videos), num_threads=LOOKS_AT_ONCE)
    stored = {name: videos[name] for name in compress(videos, there)}
    changed = find_replaced(store, stored, on_checked)
    skipped = tuple(name for name in stored if name not in changed)
    if config.update and changed:
        remove_videos(store.location, list(changed), keep_queries=True)
        store.refresh()
        changed = {}
    settled = {*skipped, *changed}
    pending = [name for name in videos if name not in settled]
    set_aside = {} if config.retry_failed else quarantine.read()
    quarantined = {name: set_aside[name] for name in pending if name in set_aside}
    rates = frame_rates(config, annotations, pending)
    return SortedVideos(
        jobs=tuple(
            VideoJob(name, videos[name], rate)
            for name, rate in rates.items()
            if name not in quarantined
        ),
        skipped=skipped,
        changed=changed,
        quarantined=quarantined,
        unlabelled=tuple(name for name in pending if name not in rates),
    )


def name_videos(
    videos: Sequence[VideoLocation], stored: VideoNames
) -> tuple[dict[str, VideoLocation], dict[str, str]]:
    """Return the videos by id, and why some can have none.

    A file whose name differs only by its Unicode normal form from a stored id, as after a move
    between systems, is that video.
    """
    paths: dict[str, VideoLocation] = {}
    refused: dict[str, str] = {}
    stems = {path.stem for path in videos}
    for path in videos:
        try:
            if isinstance(path, Path):
                require_utf8_name(path)
        except VideoError as error:
            refused[printable(path.name)] = str(error)
            continue
        twin = stored.find_spelled(path.stem)
        paths[path.stem if twin is None or twin in stems else twin] = path
    return paths, refused


def frame_rates(
    config: ExtractConfig, annotations: Sequence[Annotation], video_ids: Sequence[str]
) -> dict[str, float]:
    """Return the frame rate of each video that has one.

    A rate per video follows from its labels. Some videos of a dataset may have none, as in YouTube
    Highlights, and are left out. Raises `ConfigError` if no annotation has labels.
    """
    if config.frame_rate != PER_VIDEO:
        return dict.fromkeys(video_ids, float(config.frame_rate))
    clips = {
        each.video_id: each.saliency.clip_seconds
        for each in annotations
        if each.saliency is not None
    }
    if video_ids and not clips:
        raise ConfigError(
            "one frame a clip was asked for, but no annotation has saliency of its clips: give the "
            "annotations that have, or a number of frames a second"
        )
    return {name: 1 / clips[name] for name in video_ids if name in clips}


def find_replaced(
    store: FeatureStore,
    paths: Mapping[str, VideoLocation],
    on_video: OnProgress = no_progress,
) -> dict[str, str]:
    """Say of each stored video whose file has changed what changed, by id.

    A file of another size has changed. One of the same size is read, if it was written, renamed or
    copied after the video was stored. Imported videos cannot be compared; of a video behind a URL
    only the size is, if a listing gave it.
    """
    table = store.videos
    facts = zip(table["source_bytes"].tolist(), table["source_sha256"].tolist(), strict=True)
    recorded = dict(zip(table["video_id"].tolist(), facts, strict=True))
    publisher = publisher_at(store.location)

    def reason(video_id: str) -> str:
        if video_id not in recorded:
            row = store.video_row(video_id)
            recorded[video_id] = row.source_bytes, row.source_sha256
        num_bytes, sha256 = recorded[video_id]
        key = f"videos/{node_name(video_id)}/zarr.json"
        if not sha256:
            return ""
        return _difference(paths[video_id], num_bytes, sha256, publisher.changed_at(key))

    reasons = map_threads(reason, list(paths), num_threads=LOOKS_AT_ONCE, on_done=on_video)
    return {name: reason for name, reason in zip(paths, reasons, strict=True) if reason}


def _difference(path: VideoLocation, num_bytes: int, sha256: str, stored_at: float) -> str:
    if not isinstance(path, Path):
        size = path.num_bytes
        other = size is not None and size != num_bytes
        return f"{path} has {size:,} bytes; it was extracted with {num_bytes:,}" if other else ""
    try:
        status = path.stat()
    except OSError as error:
        raise VideoError(f"{path}: cannot be read: {error.strerror}") from error
    if status.st_size != num_bytes:
        return f"{path} has {status.st_size:,} bytes; it was extracted with {num_bytes:,}"
    if max(status.st_mtime, status.st_ctime) > stored_at and file_sha256(path) != sha256:
        return f"{path} has the size that was extracted, but not the content"
    return ""


class Quarantine:
    """The file `<store>.quarantine.jsonl`: one line for each video that failed, with its reason."""

    def __init__(self, store_location: str) -> None:
        self._file = file_beside(store_location, ".quarantine.jsonl")
        self.location = self._file.location

    def read(self) -> dict[str, str]:
        """Return the reasons by video id, in order of failure; empty if there is no file."""
        return self._reasons(self._file.read())

    def update(self, *, failed: Mapping[str, str], resolved: set[str]) -> None:
        """Add what failed and forget what was resolved.

        Other extractions into the same store may do so at the same time.
        """

        def updated(content: bytes) -> bytes:
            before = self._reasons(content)
            after = {name: reason for name, reason in before.items() if name not in resolved}
            after |= failed
            if after == before:
                return content
            rows = [{"video_id": name, "reason": reason} for name, reason in after.items()]
            return to_json_lines(rows)

        self._file.change(updated)

    def _reasons(self, content: bytes) -> dict[str, str]:
        reasons: dict[str, str] = {}
        for number, line in numbered_lines(content.decode(errors="replace")):
            try:
                row = json.loads(line)
                reasons[row["video_id"]] = row["reason"]
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(
                    f"{self.location}, line {number} is no quarantine record; mend or remove the "
                    "file"
                ) from error
        return reasons
