"""Under which licence each video of a store may be used: read it, and record it afterwards."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import partial
from pathlib import Path

from r2t.store.errors import FeatureNotFoundError
from r2t.store.feature_store import FeatureStore
from r2t.store.format import (
    damage,
    node_name,
    require_sealed,
    seal_attributes,
    source_from_attributes,
)
from r2t.store.parallel import map_threads
from r2t.store.progress import OnProgress, no_progress
from r2t.store.publish import open_publisher
from r2t.store.sources import open_root
from r2t.store.video_reader import video_attributes


def licences(location: str | Path, *, on_video: OnProgress = no_progress) -> dict[str, str | None]:
    """Return the licence of each indexed video, None where none is recorded."""
    root = open_root(location)
    video_ids: list[str] = FeatureStore(root).videos["video_id"].tolist()

    def licence(video_id: str) -> str | None:
        with damage(f"{location}: {video_id}"):
            source = source_from_attributes(video_attributes(root, video_id))
        return None if source is None else source.licence

    return dict(zip(video_ids, map_threads(licence, video_ids, on_done=on_video), strict=True))


def set_licence(
    location: str | Path, licence: str, video_ids: Collection[str] | None = None
) -> int:
    """Record a licence for some videos, or all; return for how many.

    A video's metadata is replaced by a rename, so that another store that shares the old file by a
    hard link keeps it. The digest is that of the features and stays; that of the attributes is made
    anew, once the old one has been found to hold.
    """
    root = open_root(location)
    publisher = open_publisher(root, "change it")
    version = root.header.format_version
    store = FeatureStore(root)
    known: list[str] = store.videos["video_id"].tolist()
    wanted = known if video_ids is None else list(dict.fromkeys(video_ids))
    unknown = [video_id for video_id in wanted if not store.has_video(video_id)]
    if unknown:
        raise FeatureNotFoundError(
            f"{location} has no videos {', '.join(map(repr, unknown))}; nothing was changed"
        )
    with publisher.errors(), publisher.maintenance(), publisher:
        for video_id in wanted:
            key = f"videos/{node_name(video_id)}/zarr.json"
            publisher.change(key, partial(_licensed, video_id, licence, version))
    return len(wanted)


def _licensed(video_id: str, licence: str, version: int, content: bytes) -> bytes:
    """Return a video's metadata with a licence, once what they say is proved."""
    with damage(f"{video_id}: its zarr.json"):
        metadata = json.loads(content)
        require_sealed(metadata["attributes"], version, video_id)
        source = metadata["attributes"].get("source")
        if not isinstance(source, dict | None):
            raise ValueError(f"source = {source!r}")
    nothing = {"name": "", "bytes": 0, "sha256": ""}
    changed = {**metadata["attributes"], "source": {**(source or nothing), "licence": licence}}
    metadata["attributes"] = seal_attributes(changed, version)
    return json.dumps(metadata, indent=2).encode()
