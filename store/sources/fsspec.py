"""Files behind a URL, through fsspec: bounded, retried, and with errors that say what to do.

Over http(s) the requests are our own (`http`). Listing needs a server whose folders answer with a
page of links, such as nginx with `autoindex on`; a packed store needs none.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote, unquote, urlsplit

import fsspec.core  # pyright: ignore[reportMissingTypeStubs]

from r2t.store.errors import ServerError, ServerWarning, StoreError
from r2t.store.format import MAX_WHOLE_BYTES
from r2t.store.sources.http import CONNECT_SECONDS, IDLE_SECONDS, HttpClient, TransientError
from r2t.store.sources.sources import MAX_READ_BYTES
from r2t.store.wording import how_to_install

_T = TypeVar("_T")

_url_to_fs = cast(
    "Callable[[str], tuple[Any, str]]",
    fsspec.core.url_to_fs,  # pyright: ignore[reportUnknownMemberType]
)

_ATTEMPTS = 5
_ATTEMPTS_IN_SILENCE = 3
_FIRST_PAUSE_SECONDS = 0.2
_LINK = re.compile(r"""<a\s[^>]*?href\s*=\s*["']([^"'?#]+)["']""", re.IGNORECASE)
# Errors of clients that are no dependency of ours, by name.
_TRANSIENT = {
    "ClientPayloadError",
    "ClientConnectionError",
    "ConnectTimeoutError",
    "EndpointConnectionError",
    "FSTimeoutError",
    "IncompleteReadError",
    "ReadTimeoutError",
    "ResponseStreamingError",
}
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"}
_EXTRAS = {"s3": "s3", "s3a": "s3", "http": "http", "https": "http"}


class RemoteFolder:
    """The files below a URL; a `Source`."""

    def __init__(self, url: str) -> None:
        """Connect lazily; raise `StoreError` if no installed package speaks the protocol."""
        self.location = url
        protocol = url.split("://")[0].split("::")[-1].lower()
        try:
            self._fs, path = _url_to_fs(url)
        except ImportError as error:
            extra = _EXTRAS.get(protocol)
            advice = how_to_install(extra) if extra else str(error)
            raise StoreError(
                f"cannot open {url}: {protocol} needs a package that is not installed; {advice}"
            ) from error
        except Exception as error:  # each protocol has its own
            raise StoreError(f"cannot open {url}: {error!r}") from error
        self._path = path.rstrip("/")
        protocols = self._fs.protocol
        is_http = "http" in ((protocols,) if isinstance(protocols, str) else protocols)
        self._http = HttpClient(self._fs, self._path) if is_http else None

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """Return the bytes from start to stop, fewer where the file ends; None if there is none."""
        end = start + MAX_WHOLE_BYTES if stop is None else stop
        if end - start > MAX_READ_BYTES:
            raise StoreError(f"{self._name(key)}: {end - start} bytes asked for at once")
        span = None if start == 0 and stop is None else (start, end)
        content = self._try(
            key,
            lambda: (
                self._http_get(key, span)
                if self._http is not None
                else cast("bytes", self._fs.cat_file(self._join(key), start=start, end=end))
            ),
        )
        if content is not None and span is None and len(content) >= MAX_WHOLE_BYTES:
            raise StoreError(f"{self._name(key)} is larger than {MAX_WHOLE_BYTES} bytes")
        return content

    def size(self, key: str) -> int | None:
        """Return the size of a file in bytes; None if there is none."""
        http = self._http
        if http is not None:
            return self._try(key, lambda: http.length(self._join(key)))
        info = self._try(key, lambda: cast("dict[str, Any]", self._fs.info(self._join(key))))
        if info is None or info.get("type") == "directory":
            return None
        if not isinstance(info.get("size"), int):
            raise ServerError(f"{self._name(key)}: the server does not say how large it is")
        return info["size"]

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; those of folders end with a slash."""
        if self._http is not None:
            return self._http_names(folder)

        def listed() -> list[dict[str, Any]]:
            self._fs.invalidate_cache()  # s3fs answers from memory otherwise
            return self._fs.ls(self._join(folder), detail=True)

        own = self._join(folder).strip("/")
        names: list[str] = []
        for entry in self._try(folder, listed) or []:
            path = str(entry["name"]).strip("/")
            if path != own:
                slash = "/" if entry.get("type") == "directory" else ""
                names.append(path.split("/")[-1] + slash)
        return sorted(names)

    def place(self, key: str) -> tuple[Path, int] | None:
        """Return None: nothing is on this machine."""
        del key
        return None

    def _join(self, key: str) -> str:
        if self._http is not None:  # a node name may hold %, and must arrive as it is
            key = quote(key)
        return f"{self._path}/{key}" if key else self._path

    def _name(self, key: str) -> str:
        return f"{self.location}/{key}" if key else self.location

    def _try(self, key: str, request: Callable[[], _T]) -> _T | None:
        """Make a request, again after a pause if it may then succeed; None if nothing is there."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return request()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
            except StoreError:
                raise
            except Exception as error:
                silent = isinstance(error, TimeoutError | asyncio.TimeoutError)
                attempts = _ATTEMPTS_IN_SILENCE if silent else _ATTEMPTS
                if attempt < attempts and _is_transient(error):
                    if silent:
                        warnings.warn(
                            f"{_host(self.location)} does not answer; asked again, "
                            f"{attempts - attempt} more times",
                            ServerWarning,
                            stacklevel=2,
                        )
                    pause = _FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)
                    time.sleep(pause * random.uniform(0.5, 1.5))
                    continue
                raise self._explained(key, error, attempt) from error
        raise AssertionError("unreachable")

    def _explained(self, key: str, error: Exception, attempts: int) -> ServerError:
        name = self._name(key)
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if kinds & _NO_CREDENTIALS:
            return ServerError(
                f"cannot read {name}: no credentials ({error}); set AWS_PROFILE, or "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for a public bucket set "
                "FSSPEC_S3_ANON=true"
            )
        if isinstance(error, PermissionError):
            return ServerError(
                f"cannot read {name}: access denied ({error}); check that it exists and that the "
                "credentials in use may read and list it"
            )
        times = f" after {attempts} attempts" if attempts > 1 else ""
        if self._http is not None and isinstance(error, TimeoutError | asyncio.TimeoutError):
            return ServerError(
                f"cannot read {name}{times}: the server took no connection for "
                f"{CONNECT_SECONDS:g} s, or sent nothing for {IDLE_SECONDS:g} s; try again later"
            )
        return ServerError(f"cannot read {name}{times}: {str(error) or repr(error)}")

    def _http_get(self, key: str, span: tuple[int, int] | None) -> bytes:
        assert self._http is not None
        return self._http.get(self._join(key), span)

    def _http_names(self, folder: str) -> list[str]:
        try:
            page = self._try(folder, lambda: self._http_get(f"{folder}/", None))
        except StoreError as error:
            if isinstance(error.__cause__, PermissionError):
                page = None  # what nginx answers where it lists nothing
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
        if "zarr.json" not in names and folder in ("index", "queries", "videos"):
            raise ServerError(
                f"{self._name(folder)}/ is not listed: opening a folder over http needs a server "
                "that lists folders (nginx: `autoindex on;`); or serve one packed zip, which "
                "needs no listing"
            )
        return sorted(names)


def _host(location: str) -> str:
    return urlsplit(location.split("::")[-1]).hostname or location


def _is_transient(error: Exception) -> bool:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    network = (ConnectionError, TimeoutError, asyncio.TimeoutError, TransientError)
    return isinstance(error, network) or bool(kinds & _TRANSIENT)
