"""Whether a service keeps to the conditions of a PUT, on which all that is written depends."""

from __future__ import annotations

import uuid

from r2t.store.errors import StoreError
from r2t.store.sources import Bucket, StoredObject

_proven_buckets: set[str] = set()  # that keep to the conditions of a PUT, as this process has seen


def require_conditions(beside: Bucket) -> None:
    """Try, once in this process, whether a service keeps to the conditions of a PUT."""
    bucket = "/".join(beside.location.split("/")[:3])
    if bucket not in _proven_buckets:
        require_conditional_puts(beside)
        _proven_buckets.add(bucket)


def require_conditional_puts(bucket: Bucket) -> None:
    """Raise `StoreError` unless the service keeps to the conditions of `create` and `replace`.

    Tried with an object of its own, because some services silently ignore conditions.
    """
    key = f".r2t-conditions-{uuid.uuid4().hex}"
    refusal = StoreError(
        f"{bucket.location}: the service does not keep to the conditions of a PUT "
        "(If-None-Match, If-Match), without which two writers could undo each other's work; "
        "write the store on a local disk and copy it there, or use a service that does: Amazon "
        "S3, Google Cloud Storage, Azure, MinIO, Cloudflare R2, Ceph 19"
    )
    try:
        bucket.create(key, b"1")
        seen = bucket.look(key)
        if bucket.create(key, b"2") or seen is None:
            raise refusal
        other = StoredObject(1, seen.changed, '"0"', "1" if seen.generation else None)
        if bucket.replace(key, b"3", other):
            raise refusal
        if not bucket.replace(key, b"4", seen) and bucket.read(key) != b"4":  # its answer was lost
            raise refusal
    finally:
        bucket.delete([key])
