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
from r2t.store.publish.clock import Moment
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


class _OvertakenError(StoreError):
    """Somebody else changed what this round was about to change, or had the time to."""


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

    def __init__(
        self,
        bucket: Bucket,
        place: str,
        server_time: ServerTime,
        may_commit: Callable[[], object],
    ) -> None:
        """Change the node at a place; `may_commit` is called before it is committed and may raise.

        `server_time` says what the service's clock says.
        """
        self._bucket = bucket
        self._place = place
        self._key = f"{place}/zarr.json"
        self._server_time = server_time
        self._may_commit = may_commit
        self._marked_at = Moment.now()
        self._own_mark = b""

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

    def drop(self, *, even_committed: bool = True) -> bool:
        """Remove the node; return False if there was none, or it is to stay once committed."""
        for _ in range(_ROUNDS):
            found = self._free()
            if found.committed and not even_committed:
                return False
            others = [key for key in self._bucket.objects_below(self._place) if key != self._key]
            if not others and (found.seen is None or found.doing == "removed"):
                return False
            try:
                seen = self._mark("remove", found.seen)
                # Listed again: until the mark was there a writer might have added some.
                below = self._bucket.objects_below(self._place)
                others = [key for key in below if key != self._key]
                self._bucket.delete(others, self._require_mark_fresh)
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
                self._bucket.delete([self._key], self._require_mark_fresh)

    def _commit(self, files: dict[str, Path], content: bytes, seen: StoredObject | None) -> None:
        began = Moment.now()
        marked = False
        for key, file in files.items():
            new = file.read_bytes()
            if self._bucket.create(key, new) or self._holds(key, new):
                continue
            if not marked:
                seen, marked = self._mark("replace", seen), True
            seen = self._replace(key, new, seen)

        def may_commit() -> None:
            self._may_commit()
            if began.seconds_ago() > _ROUND_SECONDS:
                raise self._took_too_long()

        self._put(content, self._renewed(seen) if marked else seen, may_commit)

    def _put(
        self,
        content: bytes,
        seen: StoredObject | None,
        may_put: Callable[[], object] | None = None,
    ) -> None:
        """Put the node's metadata where nothing, or what was seen, lies still."""
        done = self._bucket.replace(self._key, content, seen, may_put)
        if not done and self._look().content != content:  # an answer may have been lost
            raise _OvertakenError

    def _mark(self, doing: Doing, seen: StoredObject | None) -> StoredObject:
        mark, began = (
            new_mark(doing),
            Moment.now(),
        )  # the service may date it long before it answers
        self._put(mark, seen)
        self._marked_at, self._own_mark = began, mark
        found = self._look()
        if found.content != mark or found.seen is None:
            raise _OvertakenError
        return found.seen

    def _renewed(self, seen: StoredObject | None) -> StoredObject | None:
        if self._marked_at.seconds_ago() < WORK_SECONDS:
            return seen
        return self._mark("replace", seen)

    def _require_mark_fresh(self) -> None:
        if self._marked_at.seconds_ago() > WORK_SECONDS:
            raise _OvertakenError

    def _replace(self, key: str, new: bytes, mark: StoredObject | None) -> StoredObject | None:
        """Replace what a dead writer left under a key; our mark keeps other writers away.

        Returns the mark, which may have been put again.
        """
        for _ in range(_ROUNDS):
            mark = self._renewed(mark)
            seen = self._bucket.look(key)
            done = self._bucket.replace(key, new, seen, self._require_mark_fresh)
            if done or self._holds(key, new):
                return mark
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
        """Return the metadata once nobody else holds the node any more."""
        found = self._look()
        while found.doing in ("replace", "remove") and found.content != self._own_mark:
            left = LEASE_SECONDS - (self._server_time() - _seconds(found))
            if left < 0:
                return found
            first, since = found, Moment.now()
            while found.content == first.content and since.seconds_ago() <= left:
                time.sleep(_LOOK_EVERY_SECONDS)
                found = self._look()
        return found

    def _look(self) -> _Document:
        found = self._bucket.read_object(self._key)
        return _Document(b"", None) if found is None else _Document(*found)

    def _took_too_long(self) -> StoreError:
        """Return what begins a video again, and ends a part, which others may be removing."""
        if self._place.startswith("videos/"):
            return _OvertakenError()
        return StoreError(
            f"{self._bucket.location}/{self._place}: writing it took longer than "
            f"{_ROUND_SECONDS / 3600:g} hours, or this machine slept meanwhile; run the same "
            "command again"
        )

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
