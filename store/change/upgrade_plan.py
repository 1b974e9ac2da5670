"""What upgrading a store would do and write, said before anything is changed."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from r2t.store.errors import StoreError
from r2t.store.feature_store import FeatureStore
from r2t.store.format import EMBEDDING, KINDS, node_name
from r2t.store.schema import FORMAT_VERSION, EmbeddingSpec
from r2t.store.sources import StoreRoot, open_root

_FILE_BYTES = 4096  # what a disk gives a small file at least
_FILES_A_VIDEO = 4  # of embeddings: two files, and two folders


@dataclass(frozen=True)
class UpgradePlan:
    """What an upgrade has to do, and the bytes that it writes.

    New parts are written before the old ones are removed, so that `part_bytes` are taken for a
    while, and `embedding_bytes` for good. `format_version` is that of the store as it is.
    """

    format_version: int
    embedding: EmbeddingSpec | None
    num_videos: int
    num_frames: int
    num_queries: int
    embedding_bytes: int
    part_bytes: int
    free_bytes: int

    @property
    def num_bytes(self) -> int:
        """Bytes that must be free."""
        return self.embedding_bytes + self.part_bytes


def plan_upgrade(location: str | Path, embedding: EmbeddingSpec | None) -> UpgradePlan:
    """Say what an upgrade would do; with `embedding`, it would also make embeddings of that kind.

    Raises:
        StoreError: if the store is no folder on this machine.
    """
    root = open_root(location)
    return _plan(root, require_folder(root), embedding)


def require_folder(root: StoreRoot) -> Path:
    """Return the store's folder; raise `StoreError` if it is not on this machine."""
    if root.path is None:
        raise StoreError(
            f"{root.location} is no folder on this machine, and a store is upgraded in place: "
            "unpack a zip (`unzip`), or copy the folder behind a URL, and upgrade that"
        )
    return root.path


def require_room(root: StoreRoot, path: Path, embedding: EmbeddingSpec | None) -> None:
    """Raise `StoreError` if what the upgrade would write does not fit the disk."""
    plan = _plan(root, path, embedding)
    if plan.num_bytes > plan.free_bytes:
        raise StoreError(
            f"upgrading {path} writes {plan.num_bytes:,} bytes, and {plan.free_bytes:,} are free "
            "on its disk; free space and run the same command again"
        )


def _plan(root: StoreRoot, path: Path, embedding: EmbeddingSpec | None) -> UpgradePlan:
    store = FeatureStore(root)
    rows, num_queries = store.video_rows(), len(store.query_digests())
    is_current = root.header.format_version == FORMAT_VERSION
    spec = store.embedding if is_current else embedding
    embeddings = parts = 0
    if not is_current:
        width = 0 if spec is None else spec.width
        for row in rows if spec is not None else ():
            if not (path / "videos" / node_name(row.video_id) / EMBEDDING).exists():
                embeddings += 2 * width * row.num_frames + _FILES_A_VIDEO * _FILE_BYTES
        parts = sum(_folder_bytes(path / kind) for kind in KINDS) + 2 * width * num_queries
    return UpgradePlan(
        format_version=root.header.format_version,
        embedding=spec,
        num_videos=len(rows),
        num_frames=sum(row.num_frames for row in rows),
        num_queries=num_queries,
        embedding_bytes=embeddings,
        part_bytes=parts,
        free_bytes=shutil.disk_usage(path).free,
    )


def _folder_bytes(folder: Path) -> int:
    """Return the bytes that the files in a folder take on a disk, at least a block each."""
    return sum(
        max(os.lstat(os.path.join(parent, name)).st_size, _FILE_BYTES)
        for parent, _, names in os.walk(folder)
        for name in names
    )
