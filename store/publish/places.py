"""Where a store is kept decides how it is changed."""

from __future__ import annotations

from pathlib import Path

from r2t.store.errors import StoreError
from r2t.store.format import Publisher
from r2t.store.publish.local import LocalPublisher
from r2t.store.sources import (
    Bucket,
    SourceStore,
    StoreRoot,
    ZippedFolder,
    ZipSet,
    connect,
    is_bucket,
    is_url,
)


def publisher_at(location: str | Path) -> Publisher:
    """Return what makes a store at a place, and changes it.

    Raises `StoreError` where none can be written.
    """
    if not is_url(location):
        return LocalPublisher(Path(location).resolve())
    url = str(location)
    if is_bucket(url) and not url.lower().endswith(".zip"):
        return _in_bucket(connect(url))
    raise StoreError(
        f"{location}: a store is written on a local disk or in a bucket (s3://, gs://, az://); "
        "write it there and copy it"
    )


def open_publisher(root: StoreRoot, action: str) -> Publisher:
    """Return what changes a store; raise `StoreError` where it can only be read."""
    if root.path is not None:
        return LocalPublisher(root.path)
    store = root.group.store
    is_zipped = isinstance(store, SourceStore) and isinstance(store.source, ZippedFolder | ZipSet)
    if is_bucket(root.location) and not is_zipped:
        return _in_bucket(connect(root.location))
    raise StoreError(f"{root.location} is read-only: copy it to a local disk to {action}")


def _in_bucket(bucket: Bucket) -> Publisher:
    from r2t.store.publish.bucket import BucketPublisher

    return BucketPublisher(bucket)


def unfinished_work(root: StoreRoot) -> dict[str, bool]:
    """Return what is unfinished in a store, and whether somebody is still at work on each.

    Empty where the store can only be read.
    """
    try:
        publisher = open_publisher(root, "look at it")
    except StoreError:
        return {}
    return publisher.unfinished()
