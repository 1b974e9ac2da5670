"""Changing a store in a bucket, where nothing can be renamed or locked.

An object is created only if none is there, and replaced only if it is still the one that was read;
a node's `zarr.json`, which commits it, is put last. New nodes are prepared on this machine.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from r2t.store.errors import StoreError
from r2t.store.format import storage_errors
from r2t.store.publish.bucket_node import BucketNode, files_below
from r2t.store.publish.conditions import require_conditions
from r2t.store.publish.lease import Lease
from r2t.store.publish.listed_nodes import ListedNode, nodes_in
from r2t.store.publish.marks import MARK_BYTES, attributes_in, doing_of
from r2t.store.sources import Bucket, connect
from r2t.store.work_folders import SILENT_SECONDS, WorkFolder, make_own_folder

_ROUNDS = 100
_MOST_WAIT_SECONDS = 0.5
_OWN_NAMES = {"zarr.json", "videos/", "parts/", "README.md", "croissant.json"}
_GROUPS = ("videos", "parts/index", "parts/queries")
_MOST_BYTES = 2**32  # of one object: a shard of 150 frames of the largest CLIP has 0.7 GB


@dataclass(frozen=True)
class _Left:
    """A node that is not committed: when it was last written to, and what was being done."""

    place: str
    changed: float
    doing: str


class BucketPublisher:
    """A `Publisher` for a bucket; `work` lies in a folder of this machine for temporary files."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._beside = connect(f"{bucket.location}.partial")
        self._folder = WorkFolder(scratch_folder() / "bucket")
        self._lease = Lease(self._beside, bucket.location, self._server_time)
        self.work = self._folder.path

    @property
    def location(self) -> str:
        """The store, as errors name it."""
        return self._bucket.location

    def __enter__(self) -> Self:
        with self.errors():
            make_own_folder(scratch_folder(), "set TMPDIR to another place")
            self._folder.__enter__()
        try:
            require_conditions(self._beside)
        except BaseException:
            self._folder.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.__exit__()

    def errors(self) -> AbstractContextManager[None]:
        """Turn what the disk of the work folder refuses into a `StoreError`."""
        return storage_errors(self.work)

    def maintenance(self) -> AbstractContextManager[None]:
        """Hold the store by an object beside it."""
        return self._lease

    def require_room(self, num_bytes: int) -> None:
        """Raise `StoreError` if the work folder's disk has no room for so much."""
        free = shutil.disk_usage(scratch_folder().parent).free
        if num_bytes > free:
            raise StoreError(
                f"{free / 1e9:.2f} GB are free for temporary files in {scratch_folder()}, where a "
                f"video is made ready that takes {num_bytes / 1e9:.2f} GB; set TMPDIR to a folder "
                "with more"
            )

    def exists(self) -> bool:
        """Whether a store is there; raise `StoreError` if something else is."""
        if self._bucket.look("zarr.json") is not None:
            return True
        if others := sorted(set(self._bucket.names("")) - _OWN_NAMES):
            raise StoreError(
                f"{self.location} is no store and not empty: it holds {', '.join(others[:5])}; "
                "give a place of its own, such as s3://bucket/feats.zarr"
            )
        is_filled = any(set(self._bucket.names(group)) - {"zarr.json"} for group in _GROUPS)
        if is_filled and self._bucket.look("zarr.json") is None:
            raise StoreError(
                f"{self.location}/zarr.json is missing, though the rest of a store is there: was "
                "it copied halfway? Copy it again"
            )
        return is_filled

    def create(self, folder: Path) -> None:
        """Put the groups of an empty store, and its header last."""
        for name in files_below(folder):
            self._bucket.create(name, (folder / name).read_bytes())

    def add(self, folder: Path, place: str) -> bool:
        """Put a prepared node there; return False if a committed one is there already."""
        self._lease.renew()
        added = self._node(place).commit(folder)
        if added:  # as a rename would, so that a run's parts do not fill this machine's disk
            shutil.rmtree(folder, ignore_errors=True)
        return added

    def drop(self, place: str) -> bool:
        """Remove a node: a video by marks, a part at once, whose name never comes back."""
        self._lease.renew()
        if place.startswith("videos/"):
            return self._node(place).drop()
        below = self._bucket.objects_below(place)
        document = f"{place}/zarr.json"
        for keys in ({document} & below.keys(), below.keys() - {document}):
            self._bucket.delete(keys, self._lease.renew)
        return bool(below)

    def set_aside(self, place: str, time: str) -> None:
        """Copy what lies at a place to beside the store, then remove it."""
        self._lease.renew()
        whole = self._bucket.look(place)
        for key in [place] if whole is not None else list(self._bucket.objects_below(place)):
            self.copy_aside(key, time)
        if whole is not None:
            self._bucket.delete([place])
        else:
            self.drop(place)

    def copy_aside(self, key: str, time: str) -> None:
        """Copy an object to beside the store."""
        found = self._bucket.read_object(key, _MOST_BYTES)
        if found is not None:
            connect(self.aside(time)).create(key, found[0])

    def aside(self, time: str) -> str:
        """Return a place in the same bucket."""
        return f"{self.location}.damaged/{time}"

    def unfinished(self) -> dict[str, bool]:
        """Return the nodes that are not committed, and whether somebody may be at work in each."""
        now = time.time()
        return {
            f"{self.location}/{left.place}": now - left.changed < SILENT_SECONDS
            for left in self._left()
            if left.doing != "removed"
        }

    def clear(self) -> list[str]:
        """Remove what nobody has written to for a day, by the service's clock."""
        self._lease.renew()  # what came before may have taken hours in a large store
        oldest = self._server_time() - SILENT_SECONDS
        removed: list[str] = []
        for left in self._left():
            if left.changed > oldest:
                continue
            if left.doing == "removed":
                self._node(left.place).forget()
            elif self._drop_left(left.place):
                removed.append(f"{self.location}/{left.place}")
        beside = self._beside.objects_below("").items()
        self._beside.delete(key for key, each in beside if each.changed.timestamp() < oldest)
        return removed

    def holds(self, place: str) -> bool:
        """Whether an object has this key, or begins with it as a folder."""
        return self._bucket.look(place) is not None or bool(self._bucket.names(place))

    def read(self, key: str) -> bytes | None:
        """Return an object, None if there is none."""
        return self._bucket.read(key)

    def changed_at(self, key: str) -> float:
        """Return the service's time of an object."""
        seen = self._bucket.look(key)
        if seen is None:
            raise StoreError(f"{self.location}/{key} is not there")
        return seen.changed.timestamp()

    def free_bytes(self) -> int | None:
        """Return None: a bucket does not say."""
        return None

    def write(self, key: str, content: bytes) -> None:
        """Put an object, whatever is there."""
        self._lease.renew()
        for _ in self._rounds(key):
            if self._bucket.replace(key, content, self._bucket.look(key)):
                return

    def change(self, key: str, change: Callable[[bytes], bytes]) -> bool:
        """Replace an object that nobody else has replaced meanwhile; else look again."""
        self._lease.renew()
        after: bytes | None = None
        for _ in self._rounds(key):
            found = self._bucket.read_object(key)
            if found is None:
                raise StoreError(f"{self.location}/{key} is not there")
            if found[0] == after:  # the answer was lost
                return True
            after = change(found[0])
            if after == found[0]:
                return False
            if self._bucket.replace(key, after, found[1]):
                return True
        raise AssertionError

    def committed(self, place: str) -> list[str]:
        """Return a group's committed nodes, from a listing of everything below it."""
        found = nodes_in(self._bucket, place, lambda node: node.document_bytes is not None)
        return [node.name for node in found]

    def _node(self, place: str) -> BucketNode:
        return BucketNode(self._bucket, place, self._server_time, self._lease.renew)

    def _left(self) -> list[_Left]:
        """Return the nodes that are not committed: without metadata, or with a mark for them."""
        return [
            left
            for group in _GROUPS
            for node in nodes_in(self._bucket, group, _may_be_left)
            if (left := self._left_in(f"{group}/{node.name}", node)) is not None
        ]

    def _left_in(self, place: str, node: ListedNode) -> _Left | None:
        doing = None if node.document_bytes is None else self._doing(place)
        if doing is None and node.document_bytes is not None:
            return None
        if doing == "removed" and node.num_objects > 1:
            doing = "write"  # somebody brings it back
        return _Left(place, node.changed, doing or "write")

    def _drop_left(self, place: str) -> bool:
        """Remove what was left of a node, unless it has been committed meanwhile."""
        if place.startswith("videos/"):
            return self._node(place).drop(even_committed=False)
        # From now on a part gets no metadata: whoever takes so long for one gives it up.
        return self._bucket.look(f"{place}/zarr.json") is None and self.drop(place)

    def _doing(self, place: str) -> str | None:
        content = self._bucket.read(f"{place}/zarr.json")
        return None if content is None else doing_of(attributes_in(content))

    def _server_time(self) -> float:
        """Return what the service's clock says, by which it dates objects."""
        key = f"clock-{uuid.uuid4().hex}"
        self._beside.create(key, b"")
        seen = self._beside.look(key)
        self._beside.delete([key])
        if seen is None:
            raise StoreError(f"{self.location}: an object that was just put is not there")
        return seen.changed.timestamp()

    def _rounds(self, key: str) -> Generator[None]:
        for number in range(_ROUNDS):
            if number:
                time.sleep(random.random() * _MOST_WAIT_SECONDS)
            yield
        raise StoreError(
            f"{self.location}/{key}: other runs keep changing it; run the same command again"
        )


def _may_be_left(node: ListedNode) -> bool:
    return node.document_bytes is None or node.document_bytes <= MARK_BYTES


def scratch_folder() -> Path:
    """Return where what goes to a bucket is made ready: in TMPDIR, a folder of this user's."""
    return Path(tempfile.gettempdir()) / f"r2t-{os.getuid()}"
