"""Where a store is kept decides how it is changed."""

from __future__ import annotations

from r2t.store.errors import StoreError
from r2t.store.format import Publisher
from r2t.store.publish.local import LocalPublisher
from r2t.store.sources import StoreRoot


def open_publisher(root: StoreRoot, action: str) -> Publisher:
    """Return what changes a store; raise `StoreError` where it can only be read."""
    if root.path is not None:
        return LocalPublisher(root.path)
    raise StoreError(f"{root.location} is read-only: copy it to a local disk to {action}")
