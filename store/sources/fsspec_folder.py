"""Files below a URL, through fsspec: bounded, retried, and with errors that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from r2t.store.errors import NotListedError, ServerError
from r2t.store.sources.retries import ask_with_retries
from r2t.store.sources.sources import bounded_range, require_small


class FsspecFolder:
    """The files below a path of a file system of fsspec's; a `Source`."""

    def __init__(self, location: str, file_system: Any, path: str) -> None:
        self.location = location
        self._fs = file_system
        self._path = path.rstrip("/")

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """Return the bytes from start to stop, fewer where the file ends; None if there is none."""
        name = self._name(key)
        start, end = bounded_range(name, start, stop)
        content = ask_with_retries(
            name, lambda: cast("bytes", self._fs.cat_file(self._join(key), start=start, end=end))
        )
        if start == 0 and stop is None:
            require_small(name, content)
        return content

    def size(self, key: str) -> int | None:
        """Return the size of a file in bytes; None if there is none."""
        name = self._name(key)
        info = ask_with_retries(
            name, lambda: cast("dict[str, Any]", self._fs.info(self._join(key)))
        )
        if info is None or info.get("type") == "directory":
            return None
        if not isinstance(info.get("size"), int):
            raise ServerError(f"{name}: the server does not say how large it is")
        return info["size"]

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; those of folders end with a slash.

        Raises `NotListedError` where that is not allowed, as in a bucket that may only be read.
        """

        def listed() -> list[dict[str, Any]]:
            self._fs.invalidate_cache()  # some answer from memory otherwise
            return self._fs.ls(self._join(folder), detail=True)

        own = self._join(folder).strip("/")
        names: list[str] = []
        try:
            entries = ask_with_retries(self._name(folder), listed)
        except ServerError as error:
            if isinstance(error.__cause__, PermissionError | NotImplementedError):
                raise NotListedError(str(error)) from error
            raise
        for entry in entries or []:
            path = str(entry["name"]).strip("/")
            if path != own:
                slash = "/" if entry.get("type") == "directory" else ""
                names.append(path.split("/")[-1] + slash)
        return sorted(names)

    def local_file(self, key: str) -> tuple[Path, int] | None:
        """Return None: nothing is on this machine."""
        del key
        return None

    def _join(self, key: str) -> str:
        return f"{self._path}/{key}" if key else self._path

    def _name(self, key: str) -> str:
        return f"{self.location}/{key}" if key else self.location
