"""The nodes of a group in a bucket, as a listing passes them by: memory for those asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from r2t.store.errors import StoreError
from r2t.store.sources import Bucket, StoredObject

_Listed = Iterable[tuple[str, StoredObject]]


@dataclass
class ListedNode:
    """What a listing says of a node: the size of its metadata, and when it was last written to.

    `document_bytes` is None if it has no metadata, `changed` in seconds since 1970.
    """

    name: str
    num_objects: int = 0
    document_bytes: int | None = None
    changed: float = 0.0


class _OrderError(StoreError):
    """The objects of a node do not follow one another."""


def nodes_in(
    bucket: Bucket, group: str, is_wanted: Callable[[ListedNode], bool]
) -> list[ListedNode]:
    """Return some of the nodes in a group, in the order of their names.

    S3, Google Cloud Storage and Azure list objects in the order of their keys. Where a service has
    another one, all objects are held in memory.
    """
    within = len(group) + 1

    def wanted(listed: _Listed) -> list[ListedNode]:
        return [node for node in _nodes(listed, within) if is_wanted(node)]

    try:
        found = bucket.fold_below(group, wanted)
    except _OrderError:
        found = wanted(sorted(bucket.objects_below(group).items()))
    return sorted(found, key=lambda node: node.name)


def _nodes(listed: _Listed, within: int) -> Iterator[ListedNode]:
    """Yield each node when its last object has passed."""
    node: ListedNode | None = None
    for key, found in listed:
        name, slash, below = key[within:].partition("/")
        if not slash:
            continue  # the metadata of the group, or an object that stands for a folder
        if node is None or node.name != name:
            if node is not None:
                yield node
                # In a name that begins with another one, what follows may sort before a slash.
                if name < node.name and f"{name}/" < f"{node.name}/":
                    raise _OrderError
            node = ListedNode(name)
        node.num_objects += 1
        node.changed = max(node.changed, found.changed.timestamp())
        if below == "zarr.json":
            node.document_bytes = found.num_bytes
    if node is not None:
        yield node
