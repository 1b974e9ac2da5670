"""Videos whose files are no longer those that were extracted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from r2t.extract.video import file_sha256
from r2t.store.errors import VideoError
from r2t.store.feature_store import FeatureStore
from r2t.store.format import node_name
from r2t.store.progress import OnProgress, no_progress


def find_replaced(
    store: FeatureStore,
    paths: Mapping[str, Path],
    on_video: OnProgress = no_progress,
) -> dict[str, str]:
    """Say of each stored video whose file has changed what changed, by id.

    A file of another size is another one; of the same size, it is read if it was written, renamed
    or copied since the video was stored. What a store was imported from cannot be compared.
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


def _difference(path: Path, num_bytes: int, sha256: str, stored_at: float) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise VideoError(f"{path}: cannot be read: {error.strerror}") from error
    if status.st_size != num_bytes:
        return f"{path} has {status.st_size:,} bytes, was extracted with {num_bytes:,}"
    if max(status.st_mtime, status.st_ctime) > stored_at and file_sha256(path) != sha256:
        return f"{path} has other content than was extracted, in as many bytes"
    return ""


def _stored_at(store: FeatureStore, video_id: str) -> float:
    document = Path(store.location, "videos", node_name(video_id), "zarr.json")
    return document.stat().st_mtime
