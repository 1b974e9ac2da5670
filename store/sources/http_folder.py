"""Files below an http(s) URL, by requests of our own.

Listing needs a server whose folders answer with a page of links, such as nginx with `autoindex
on`. A store of format version 2 is read without, and so is a packed one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, unquote, urlsplit

from r2t.store.errors import NotListedError, StoreError
from r2t.store.format import group_names
from r2t.store.sources.http import HTTP_SILENCE, HttpClient
from r2t.store.sources.retries import ask_with_retries
from r2t.store.sources.sources import bounded_range, require_small

_LINK = re.compile(r"""<a\s[^>]*?href\s*=\s*["']([^"'?#]+)["']""", re.IGNORECASE)
_GROUPS = {"", *group_names(1), *group_names(2)}  # each of them holds a zarr.json


class HttpFolder:
    """The files below an http(s) URL; a `Source`."""

    def __init__(
        self, location: str, file_system: Any, url: str, *, keeps_redirects: bool = False
    ) -> None:
        """Take the options and the event loop of fsspec's HTTPFileSystem; see `HttpClient`."""
        self.location = location
        self._url = url.rstrip("/")
        self._client = HttpClient(file_system, self._url, keeps_redirects=keeps_redirects)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """Return the bytes from start to stop, fewer where the file ends; None if there is none."""
        name = self._name(key)
        wanted = bounded_range(name, start, stop)
        whole = start == 0 and stop is None
        content = ask_with_retries(
            name, lambda: self._get(key, None if whole else wanted), HTTP_SILENCE
        )
        if whole:
            require_small(name, content)
        return content

    def size(self, key: str) -> int | None:
        """Return the size of a file in bytes; None if there is none."""
        return ask_with_retries(
            self._name(key), lambda: self._client.length(self._join(key)), HTTP_SILENCE
        )

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; those of folders end with a slash."""
        try:
            page = ask_with_retries(
                self._name(folder), lambda: self._get(f"{folder}/", None), HTTP_SILENCE
            )
        except StoreError as error:
            if isinstance(error.__cause__, PermissionError):
                page = None  # nginx answers 403 where it lists nothing, others 405 or 501
            else:
                raise
        links = _LINK.findall((page or b"").decode("utf-8", "replace"))
        base = urlsplit(f"{self._join(folder)}/").path
        names: set[str] = set()
        for link in cast("list[str]", links):
            path = urlsplit(link).path
            name = unquote(path.removeprefix(base).removeprefix("./"))
            if name and name.rstrip("/") not in ("", ".", "..") and "/" not in name.rstrip("/"):
                names.add(name)
        if "zarr.json" not in names and folder in _GROUPS:
            raise NotListedError(
                f"{self._name(folder)}/ is not listed: this needs a server that lists folders "
                "(nginx: `autoindex on;`); a store of format version 2 opens without, and so does "
                "one packed zip"
            )
        return sorted(names)

    def local_file(self, key: str) -> tuple[Path, int] | None:
        """Return None: nothing is on this machine."""
        del key
        return None

    def _get(self, key: str, wanted: tuple[int, int] | None) -> bytes:
        return self._client.get(self._join(key), wanted)

    def _join(self, key: str) -> str:
        key = quote(key)  # a node name may hold %, and must arrive as it is
        return f"{self._url}/{key}" if key else self._url

    def _name(self, key: str) -> str:
        return f"{self.location}/{key}" if key else self.location
