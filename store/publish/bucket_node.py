"""Committing a video to a bucket, and taking one out: what may be in the way, and what is safe.

The argument is in docs/store-format.md, under "In an object store".
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from r2t.store.errors import StoreError
from r2t.store.publish.marks import (
    LEASE_SECONDS,
    WORK_SECONDS,
    Doing,
    attributes_in,
    doing_of,
    is_committed,
    new_mark,
)
from r2t.store.sources import Bucket, StoredObject

_ROUNDS = 20
_ROUND_SECONDS = 12 * 3600.0  # half of what must pass before `repair` calls a node left behind
_LOOK_EVERY_SECONDS = 2.0
_PIECE_BYTES = 16 * 2**20

ServerTime = Callable[[], float]


class _OvertakenError(Exception):
    """Somebody else changed what this round was about to change."""


@dataclass(frozen=True)
class _Document:
    """A node's metadata as they were seen: committed, a mark, or nothing."""

    content: bytes
    seen: StoredObject | None

    @property
    def committed(self) -> bool:
        return self.seen is not None and is_committed(attributes_in(self.content))

    @property
    def doing(self) -> str | None:
        return doing_of(attributes_in(self.content))


class BucketNode:
    """One node of a bucket's store, whose `zarr.json` decides whether it is there."""

    def __init__(self, bucket: Bucket, place: str, server_time: ServerTime) -> None:
        self._bucket = bucket
        self._place = place
        self._key = f"{place}/zarr.json"
        self._server_time = server_time
        self._marked_at = 0.0

    def commit(self, folder: Path) -> bool:
        """Put a prepared node there; return False if one of other metadata is committed."""
        files = {f"{self._place}/{name}": folder / name for name in files_below(folder)}
        content = files.pop(self._key).read_bytes()
        for _ in range(_ROUNDS):
            found = self._free()
            if found.committed:
                return found.content == content
            try:
                self._commit(files, content, found.seen)
            except _OvertakenError:
                continue
            return True
        raise self._contested()

    def drop(self) -> bool:
        """Remove the node, committed or not; return False if there was none."""
        for _ in range(_ROUNDS):
            found = self._free()
            others = [key for key in self._bucket.objects_below(self._place) if key != self._key]
            if not others and (found.seen is None or found.doing == "removed"):
                return False
            try:
                seen = self._mark("remove", found.seen)
                # Listed again: until the mark was there a writer might have added some.
                below = self._bucket.objects_below(self._place)
                self._require_mark_fresh()
                self._bucket.delete(key for key in below if key != self._key)
                self._mark("removed", seen)
            except _OvertakenError:
                continue
            return True
        raise self._contested()

    def forget(self) -> None:
        """Delete the mark of a removal; leave it where somebody has put another document."""
        found = self._look()
        if found.doing == "removed":
            # Under a mark that makes others wait, since a DELETE takes no condition.
            with contextlib.suppress(_OvertakenError):
                self._mark("remove", found.seen)
                self._bucket.delete([self._key])

    def _commit(self, files: dict[str, Path], content: bytes, seen: StoredObject | None) -> None:
        began = time.monotonic()
        marked = False
        for key, file in files.items():
            new = file.read_bytes()
            if self._bucket.create(key, new) or self._holds(key, new):
                continue
            if not marked:
                seen, marked = self._mark("replace", seen), True
            seen = self._renewed(seen)
            self._replace(key, new)
        if marked:
            seen = self._renewed(seen)
        if time.monotonic() - began > _ROUND_SECONDS:
            raise _OvertakenError
        self._put(content, seen)

    def _put(self, content: bytes, seen: StoredObject | None) -> None:
        """Put the node's metadata where nothing, or what was seen, lies still."""
        if seen is None:
            done = self._bucket.create(self._key, content)
        else:
            done = self._bucket.replace(self._key, content, seen)
        if not done and self._look().content != content:  # an answer may have been lost
            raise _OvertakenError

    def _mark(self, doing: Doing, seen: StoredObject | None) -> StoredObject:
        mark = new_mark(doing)
        self._put(mark, seen)
        self._marked_at = time.monotonic()
        found = self._look()
        if found.content != mark or found.seen is None:
            raise _OvertakenError
        return found.seen

    def _renewed(self, seen: StoredObject | None) -> StoredObject | None:
        if time.monotonic() - self._marked_at < WORK_SECONDS:
            return seen
        return self._mark("replace", seen)

    def _require_mark_fresh(self) -> None:
        if time.monotonic() - self._marked_at > WORK_SECONDS:
            raise _OvertakenError

    def _replace(self, key: str, new: bytes) -> None:
        """Replace what a dead writer left under a key; our mark keeps other writers away."""
        for _ in range(_ROUNDS):
            seen = self._bucket.look(key)
            if seen is None:
                done = self._bucket.create(key, new)
            else:
                done = self._bucket.replace(key, new, seen)
            if done or self._holds(key, new):
                return
            self._require_mark_fresh()
        raise self._contested()

    def _holds(self, key: str, new: bytes) -> bool:
        """Whether an object has exactly these bytes."""
        if self._bucket.size(key) != len(new):
            return False
        return all(
            self._bucket.read(key, start, start + len(piece)) == piece
            for start, piece in _pieces(new)
        )

    def _free(self) -> _Document:
        """Return the metadata once nobody holds the node any more."""
        found = self._look()
        if found.doing not in ("replace", "remove"):
            return found
        since, first = time.monotonic(), found
        age = self._server_time() - _seconds(found)
        while found.doing in ("replace", "remove"):
            if found.content != first.content:
                since, first, age = time.monotonic(), found, 0.0
            if age + time.monotonic() - since > LEASE_SECONDS:
                return found
            time.sleep(_LOOK_EVERY_SECONDS)
            found = self._look()
        return found

    def _look(self) -> _Document:
        found = self._bucket.read_object(self._key)
        return _Document(b"", None) if found is None else _Document(*found)

    def _contested(self) -> StoreError:
        return StoreError(
            f"{self._bucket.location}/{self._place}: other runs keep changing it; run the same "
            "command again when they have ended"
        )


def files_below(folder: Path) -> list[str]:
    """Return the files below a folder by their names within it, its own `zarr.json` last."""
    names = [str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()]
    return sorted(names, key=lambda name: (name == "zarr.json", name))


def _pieces(content: bytes) -> Iterator[tuple[int, bytes]]:
    for start in range(0, len(content), _PIECE_BYTES):
        yield start, content[start : start + _PIECE_BYTES]


def _seconds(found: _Document) -> float:
    return 0.0 if found.seen is None else found.seen.changed.timestamp()
