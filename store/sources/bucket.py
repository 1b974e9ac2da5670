"""Objects below a place in a bucket of S3, Google Cloud Storage or Azure, through obstore.

Reading is a `Source`. Writing offers what a store needs in order to be committed where nothing can
be renamed or locked: an object is created only if there is none, or replaced only if nobody else
has replaced it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from r2t.store.errors import NotListedError, ServerError, StoreError
from r2t.store.format import MAX_WHOLE_BYTES
from r2t.store.sources.bucket_errors import (
    SILENCE,
    ended_before,
    explained,
    is_conflict,
    lacks_reason,
)
from r2t.store.sources.retries import ask_with_retries
from r2t.store.sources.sources import bounded_range, require_small

if TYPE_CHECKING:
    from obstore import ObjectMeta, UpdateVersion
    from obstore.store import AzureStore, GCSStore, S3Store

_T = TypeVar("_T")
_AT_ONCE = 1000  # objects that one request deletes


@dataclass(frozen=True)
class StoredObject:
    """An object as it was when it was looked at.

    `etag` and `generation` are what the service knows its content by; one may be None.
    """

    num_bytes: int
    changed: datetime
    etag: str | None
    generation: str | None


class Bucket:
    """The objects below a place in a bucket; keys are relative to it, and "" is the place itself.

    Any request raises a `ServerError` that says what to do, if asking again did not help.
    """

    def __init__(self, location: str, store: S3Store | GCSStore | AzureStore, folder: str) -> None:
        self.location = location
        self._store = store
        self._folder = folder
        self._has_answered = False

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """Return the bytes from start to stop, fewer where the file ends; None if there is none."""
        name = self._name(key)
        start, end = bounded_range(name, start, stop)
        if start >= end:
            return b""
        content = self._ask(name, lambda: self._range(self._path(key), start, end))
        if start == 0 and stop is None:
            require_small(name, content)
        return content

    def read_object(
        self, key: str, most_bytes: int = MAX_WHOLE_BYTES
    ) -> tuple[bytes, StoredObject] | None:
        """Return a whole object and what it can be replaced by; None if there is none.

        Raises `StoreError` if it is larger than `most_bytes`.
        """
        name = self._name(key)

        def get() -> tuple[bytes, StoredObject]:
            found = self._store.get(self._path(key))
            seen = _stored(found.meta)
            if seen.num_bytes > most_bytes:
                raise StoreError(f"{name} is larger than {most_bytes} bytes")
            content = found.bytes().to_bytes()
            _require_length(content, seen.num_bytes)
            return content, seen

        return self._ask(name, get)

    def look(self, key: str) -> StoredObject | None:
        """Return what an object is, without its content; None if there is none."""
        name, path = self._name(key), self._path(key)

        def head() -> StoredObject:
            try:
                return _stored(self._store.head(path))
            except Exception as error:  # its answer has no body, so that the reason is asked for
                if lacks_reason(error) or not self._has_answered:
                    self._range(path, 0, 1)
                raise

        return self._ask(name, head)

    def size(self, key: str) -> int | None:
        """Return the size of a file in bytes; None if there is none."""
        found = self.look(key)
        return None if found is None else found.num_bytes

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; those of folders end with a slash.

        Raises `NotListedError` where that is not allowed, as in a bucket that may only be read.
        """
        path = self._path(folder)
        found = self._listed(folder, lambda: self._store.list_with_delimiter(path or None))  # pyright: ignore[reportUnknownMemberType]
        if found is None:
            return []
        names = [f"{each.rsplit('/', 1)[-1]}/" for each in found["common_prefixes"]]
        files = [each["path"] for each in found["objects"]]
        # Some programs make an empty object for a folder, whose key ends with a slash.
        return sorted(names + [each.rsplit("/", 1)[-1] for each in files if each != path])

    def keys(self, folder: str) -> list[str]:
        """Return the keys of all files below a folder, in few requests; see `keys_below`."""
        return sorted(self.objects_below(folder))

    def objects_below(self, folder: str) -> dict[str, StoredObject]:
        """Return all objects below a folder ("" for every one) by key: 1,000 in a request."""
        objects = self.fold_below(folder, dict)
        folders = {each for key in objects for each in _folders_of(key) if each in objects}
        return {key: each for key, each in objects.items() if key and key not in folders}

    def fold_below(
        self, folder: str, fold: Callable[[Iterator[tuple[str, StoredObject]]], _T]
    ) -> _T:
        """Return what `fold` makes of the objects below a folder, in the order of their keys.

        They come as they are listed, so that memory is what `fold` takes. It is called again where
        a request is made again. Among them are empty ones that stand for folders.
        """
        path = self._path(folder)
        cut = len(self._folder) + 1 if self._folder else 0

        def listed() -> _T:
            # Page by page: millions of the client's own entries would take several times as much.
            pages = self._store.list(path or None)  # pyright: ignore[reportUnknownMemberType]
            return fold((each["path"][cut:], _stored(each)) for page in pages for each in page)

        found = self._listed(folder, listed)
        return fold(iter(())) if found is None else found

    def local_file(self, key: str) -> tuple[Path, int] | None:
        """Return None: nothing is on this machine."""
        del key
        return None

    def create(self, key: str, content: bytes, may_put: Callable[[], object] | None = None) -> bool:
        """Put an object where none is; return False, having changed nothing, where there is one.

        One may be there because this request was repeated after its answer had got lost; a caller
        who needs to know compares the bytes. `may_put` is called before each attempt, and ends them
        by a `StoreError`.
        """
        from obstore.exceptions import AlreadyExistsError

        def put() -> bool:
            if may_put is not None:
                may_put()
            try:
                self._store.put(self._path(key), content, mode="create", use_multipart=False)
            except AlreadyExistsError as error:
                if is_conflict(error):
                    raise
                return False
            return True

        return self._wrote(key, put)

    def replace(
        self,
        key: str,
        content: bytes,
        seen: StoredObject | None,
        may_put: Callable[[], object] | None = None,
    ) -> bool:
        """Put an object in place of what was seen, or of nothing; return False if that has changed.

        As with `create`, it may have changed because this request was repeated.
        """
        if seen is None:
            return self.create(key, content, may_put)
        from obstore.exceptions import PreconditionError

        mode: UpdateVersion = {"e_tag": seen.etag}
        if seen.generation is not None:
            mode["version"] = seen.generation

        def put() -> bool:
            if may_put is not None:
                may_put()
            try:
                self._store.put(self._path(key), content, mode=mode, use_multipart=False)
            except PreconditionError as error:
                if is_conflict(error):
                    raise
                return False
            return True

        return self._wrote(key, put)

    def delete(self, keys: Iterable[str], may_delete: Callable[[], object] | None = None) -> None:
        """Delete objects, 1,000 in a request where the service can; those absent are no error.

        `may_delete` is called before each attempt, and ends them by a `StoreError`.
        """

        def delete(paths: list[str]) -> bool:
            if may_delete is not None:
                may_delete()
            self._store.delete(paths)
            return True

        wanted = [self._path(key) for key in keys]
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            if self._ask(self.location, partial(delete, some), "change") is None:
                for path in some:  # one of them is absent, where that ends the request
                    self._ask(self.location, partial(delete, [path]), "change")

    def _wrote(self, key: str, put: Callable[[], bool]) -> bool:
        done = self._ask(self._name(key), put, "write")
        if done is None:
            raise ServerError(f"cannot write {self._name(key)}: the service says it is not there")
        return done

    def _listed(self, folder: str, listed: Callable[[], _T]) -> _T | None:
        name = self._name(folder)
        try:
            return self._ask(name, listed, "list")
        except ServerError as error:
            if isinstance(error.__cause__, PermissionError | NotImplementedError):
                raise NotListedError(str(error)) from error
            raise

    def _range(self, path: str, start: int, stop: int) -> bytes:
        try:
            found = self._store.get(path, options={"range": (start, stop)})
            first, last = found.range
            content = found.bytes().to_bytes()
        except Exception as error:
            if ended_before(error):
                return b""
            raise
        if first != start or last > stop:
            raise ServerError(f"{path}: bytes {first} to {last} came for {start} to {stop}")
        _require_length(content, last - first)
        return content

    def _ask(self, name: str, request: Callable[[], _T], verb: str = "read") -> _T | None:
        from obstore.exceptions import BaseError

        def asked() -> _T:
            try:
                answer = request()
            except StoreError:
                raise
            except (BaseError, OSError, ValueError) as error:
                raise explained(name, error, self._has_answered) from error
            self._has_answered = True
            return answer

        return ask_with_retries(name, asked, SILENCE, verb)

    def _path(self, key: str) -> str:
        return f"{self._folder}/{key}".strip("/") if self._folder else key

    def _name(self, key: str) -> str:
        return f"{self.location}/{key}" if key else self.location


def _folders_of(key: str) -> list[str]:
    return [key[:at] for at, letter in enumerate(key) if letter == "/"]


def _stored(meta: ObjectMeta) -> StoredObject:
    return StoredObject(meta["size"], meta["last_modified"], meta["e_tag"], meta["version"])


def _require_length(content: bytes, num_bytes: int) -> None:
    if len(content) != num_bytes:
        raise ConnectionError(f"{len(content)} bytes came where {num_bytes} were said to")
