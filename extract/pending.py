"""Which videos an extraction has to do: their ids and rates, and what became of them before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from r2t.extract.config import ExtractConfig
from r2t.extract.fetch import VideoLocation
from r2t.extract.video import file_sha256
from r2t.store.annotations import Annotation
from r2t.store.errors import ConfigError, StoreError, VideoError
from r2t.store.feature_store import FeatureStore
from r2t.store.files import write_whole
from r2t.store.format import node_name
from r2t.store.json_lines import numbered_lines, printable, to_json_lines
from r2t.store.progress import OnProgress, no_progress
from r2t.store.schema import PER_VIDEO
from r2t.store.video_names import VideoNames, require_utf8_name
from r2t.store.work_folders import held


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

    Where each has its own, by its labels, a dataset's folder may hold videos without any, as that
    of YouTube Highlights does. Raises `ConfigError` where no annotation has labels.
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

    A file of another size is another one; of the same size, it is read if it was written, renamed
    or copied since the video was stored. What a store was imported from cannot be compared, and of
    a video behind a URL only the size is, where a listing told it.
    """
    table = store.videos
    facts = zip(table["source_bytes"].tolist(), table["source_sha256"].tolist(), strict=True)
    recorded = dict(zip(table["video_id"].tolist(), facts, strict=True))
    replaced: dict[str, str] = {}
    for number, (video_id, path) in enumerate(paths.items(), start=1):
        if video_id not in recorded:
            row = store.video_row(video_id)
            recorded[video_id] = row.source_bytes, row.source_sha256
        num_bytes, sha256 = recorded[video_id]
        reason = _difference(path, num_bytes, sha256, _stored_at(store, video_id)) if sha256 else ""
        if reason:
            replaced[video_id] = reason
        on_video(number, len(paths))
    return replaced


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


def _stored_at(store: FeatureStore, video_id: str) -> float:
    document = Path(store.location, "videos", node_name(video_id), "zarr.json")
    return document.stat().st_mtime


class Quarantine:
    """The file `<store>.quarantine.jsonl`: one line for each video that failed, with its reason."""

    def __init__(self, store_location: str) -> None:
        root = Path(store_location)
        self.path = root.with_name(f"{root.name}.quarantine.jsonl")

    def read(self) -> dict[str, str]:
        """Return the reasons by video id, in order of failure; empty if there is no file."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        reasons: dict[str, str] = {}
        for number, line in numbered_lines(text):
            try:
                row = json.loads(line)
                reasons[row["video_id"]] = row["reason"]
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(
                    f"{self.path}, line {number} is no quarantine record; mend or remove the file"
                ) from error
        return reasons

    def update(self, *, failed: Mapping[str, str], resolved: set[str]) -> None:
        """Add what failed and forget what was resolved, in one rename.

        Other extractions into the same store may do so at the same time.
        """
        with held(self.path.parent):
            self._update(failed, resolved)

    def _update(self, failed: Mapping[str, str], resolved: set[str]) -> None:
        before = self.read()
        after = {name: reason for name, reason in before.items() if name not in resolved}
        after |= failed
        if after == before:
            return
        if not after:
            self.path.unlink()
            return
        rows = [{"video_id": name, "reason": reason} for name, reason in after.items()]
        write_whole(self.path, to_json_lines(rows))
