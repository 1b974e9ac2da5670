"""Requests over http(s): bounded in size, given up when nothing comes, redirected with care.

fsspec reads a whole file where a server ignores the range that was asked for, takes whatever number
of bytes is sent, and follows a redirection anywhere. So requests are made here, with the options
that fsspec was configured with; `redirects` says where they may be sent on to.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import fsspec.asyn  # pyright: ignore[reportMissingTypeStubs]

from r2t.store.errors import ServerError, StoreError
from r2t.store.format import MAX_WHOLE_BYTES
from r2t.store.sources.redirects import RedirectRules, RefusedError
from r2t.store.sources.retries import TransientError
from r2t.store.sources.sources import MAX_READ_BYTES

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 30.0
"""How long a server may send nothing. A whole request has no limit, since it may be slow."""

HTTP_SILENCE = (
    f"the server took no connection for {CONNECT_SECONDS:g} s, or sent nothing for "
    f"{IDLE_SECONDS:g} s; try again later"
)

_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_ANSWERS = (200, 206, 416)
_MOST_KEPT = 10_000  # addresses, of up to some kilobytes
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_AS_IT_IS = ("", "identity")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/([0-9]{1,19})")
_FOR_STRANGERS = ("proxy", "ssl")  # options that carry no credentials for the first server


class HttpAnswer:
    """A file that a server sends, from the byte `start` on; `num_bytes` is the size of all of it.

    `version` changes when the file does: its ETag or its date. It is None if the server gives none.
    """

    def __init__(self, response: Any, url: str, loop: Any) -> None:
        self._response = response
        self._loop = loop
        headers = response.headers
        self.content_type = str(headers.get("Content-Type", "")).partition(";")[0].strip().lower()
        etag = str(headers.get("ETag", ""))
        strong = etag if etag.startswith('"') else ""
        self.version: str | None = strong or headers.get("Last-Modified")
        self.start = 0
        self.num_bytes: int | None = None
        if response.status == 206:
            span = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
            if span is None:
                raise ServerError(f"{url}: the server sends a part and does not say which")
            self.start, self.num_bytes = int(span[1]), int(span[2])
        elif headers.get("Content-Encoding", "") in _AS_IT_IS:
            told = str(headers.get("Content-Length", ""))
            self.num_bytes = int(told) if told.isdigit() else None

    def pieces(self, num_bytes: int) -> Iterator[bytes]:
        """Yield the bytes as they come, at most so many at a time."""
        while piece := self._next(num_bytes):
            yield piece

    def _next(self, num_bytes: int) -> bytes:
        return cast("bytes", fsspec.asyn.sync(self._loop, self._response.content.read, num_bytes))  # pyright: ignore[reportUnknownMemberType]


class HttpClient:
    """Requests to one server, and to those that it passes them on to."""

    def __init__(self, fs: Any, url: str, *, keeps_redirects: bool = False) -> None:
        """Take the options and the event loop of an HTTPFileSystem.

        `keeps_redirects` is for servers whose every URL means the same bytes for ever: where they
        pass requests on to is asked once for each, and again where that refuses.
        """
        self._fs = fs
        self._keeps_redirects = keeps_redirects
        self._moved: dict[tuple[str, str], str] = {}  # signed addresses may hold for one method
        self._rules = RedirectRules(url)
        self._sessions: dict[bool, Any] = {}

    def get(self, url: str, span: tuple[int, int] | None) -> bytes:
        """Return a file, or some bytes of it, fewer where it ends.

        A small file is read whole where the server ignores ranges.
        """
        return cast("bytes", fsspec.asyn.sync(self._fs.loop, self._get, url, span))  # pyright: ignore[reportUnknownMemberType]

    def length(self, url: str) -> int:
        """Ask how long a file is; fsspec would take any failure for a file that is missing."""
        return cast("int", fsspec.asyn.sync(self._fs.loop, self._length, url))  # pyright: ignore[reportUnknownMemberType]

    @contextmanager
    def open(self, url: str, start: int = 0, version: str | None = None) -> Generator[HttpAnswer]:
        """Yield a file, which may be on another server, from a byte on.

        It comes from its beginning if it is not of that version, or the server ignores ranges.
        """
        headers = {"Accept-Encoding": "identity"}
        if start and version is not None:
            headers |= {"Range": f"bytes={start}-", "If-Range": version}
        if not self._rules.is_own(url):
            self._ask(self._rules.look_up_own_address)
        request = self._request("GET", url, headers)
        response = self._ask(request.__aenter__)
        try:
            fits = response.status != 416  # the file is another one, which is shorter
            if fits:
                _require_status(response.status, url)
                answer = HttpAnswer(response, url, self._fs.loop)
                if answer.start:  # some servers ignore `If-Range`; the rest need not repeat it
                    answer.version = answer.version or version
                    fits = (answer.start, answer.version) == (start, version)
                if fits:
                    yield answer
        finally:
            self._ask(request.__aexit__, None, None, None)
        if not fits:
            if "Range" not in headers:
                raise ServerError(f"{url}: the server sends no whole file")
            with self.open(url) as answer:
                yield answer

    def _ask(self, request: Callable[..., Any], *arguments: Any) -> Any:
        return fsspec.asyn.sync(self._fs.loop, request, *arguments)  # pyright: ignore[reportUnknownMemberType]

    async def _get(self, url: str, span: tuple[int, int] | None) -> bytes:
        headers = {"Accept-Encoding": "identity"}
        limit = MAX_READ_BYTES
        if span is not None:
            headers["Range"] = f"bytes={span[0]}-{span[1] - 1}"
            limit = span[1] - span[0]
        async with self._request("GET", url, headers) as response:
            status = cast("int", response.status)
            _require_status(status, url)
            if status == 416:  # the file ends before the range begins
                return b""
            if span is None or status == 206:
                kind = StoreError if span is None else ServerError
                return await _body(response, url, limit, kind)
            told = response.headers.get("Content-Length", "")
            if not told.isdigit() or int(told) > MAX_WHOLE_BYTES:
                raise ServerError(
                    f"{url}: the server does not support range requests (it answers "
                    f"{status}, not 206), so reading a part would transfer the whole file; "
                    "use a server that does, such as nginx, or copy the store here"
                )
            return (await _body(response, url, int(told), ServerError))[slice(*span)]

    async def _length(self, url: str) -> int:
        headers = {"Accept-Encoding": "identity"}
        for method in ("HEAD", "GET"):  # not every server, or signed URL, allows the former
            async with self._request(method, url, headers) as response:
                status = cast("int", response.status)
                if method == "HEAD" and status >= 400 and status not in (404, 410, *_BUSY):
                    continue
                _require_status(status, url)
                told = response.headers.get("Content-Length", "")
                if told.isdigit() and response.headers.get("Content-Encoding", "") in _AS_IT_IS:
                    return int(told)
        raise ServerError(f"{url}: the server does not say how large it is")

    @asynccontextmanager
    async def _request(
        self, method: str, url: str, headers: Mapping[str, str]
    ) -> AsyncGenerator[Any]:
        """Yield the answer of the server, or of the one that it passes the request on to."""
        import aiohttp

        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=IDLE_SECONDS
        )
        current = kept = self._moved.get((method, url), url)
        for _ in range(_MAX_REDIRECTS + 1 + (kept != url)):
            is_own = self._rules.is_own(current)
            options = {
                name: value
                for name, value in self._fs.kwargs.items()
                if is_own or name in _FOR_STRANGERS
            }
            options["headers"] = {**options.get("headers", {}), **headers}
            try:
                self._rules.judge_literal(current)
                response = await self._session(is_own).request(
                    method, _exactly(current), allow_redirects=False, timeout=timeout, **options
                )
            except RefusedError as error:
                raise ServerError(f"{url}: {error}") from error
            except Exception:
                self._moved.pop((method, url), None)  # another one may be reached
                raise
            async with response:
                target = response.headers.get("Location")
                if current == kept != url and response.status not in _ANSWERS:
                    self._moved.pop((method, url), None)  # it does not hold any more
                    current = kept = url
                    continue
                if response.status not in _REDIRECTS or not target:
                    if response.status in _ANSWERS:
                        self._keep(method, url, current)
                    yield response
                    return
            current = self._rules.followed(url, current, target)
        raise ServerError(
            f"{url}: the server redirects the request more than {_MAX_REDIRECTS} times"
        )

    def _keep(self, method: str, url: str, current: str) -> None:
        """Remember where a request was answered at last; the oldest of very many are forgotten."""
        if self._keeps_redirects and current != url:
            self._moved[method, url] = current
            if len(self._moved) > _MOST_KEPT:
                del self._moved[next(iter(self._moved))]

    def _session(self, is_own: bool) -> Any:
        """Return a session on fsspec's loop, for the server itself or for others."""
        import aiohttp

        if is_own not in self._sessions:
            given: dict[str, Any] = dict(self._fs.client_kwargs)
            if not is_own:
                given = {"trust_env": given["trust_env"]} if "trust_env" in given else {}
            options: dict[str, Any] = {
                "connector": aiohttp.TCPConnector(resolver=self._rules.resolver()),
                **given,
            }
            session = aiohttp.ClientSession(**options)
            weakref.finalize(self, self._fs.close_session, self._fs.loop, session)
            self._sessions[is_own] = session
        return self._sessions[is_own]


def _exactly(url: str) -> Any:
    """Return what aiohttp asks for as it is; of a plain text it would undo some escapes."""
    import yarl  # comes with aiohttp, which only an extra brings

    return yarl.URL(url, encoded=True)


async def _body(response: Any, url: str, limit: int, kind: type[StoreError]) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_chunked(2**20):
        body += piece
        if len(body) > limit:
            raise kind(f"{url}: the server sends more than the {limit} bytes asked")
    told = response.headers.get("Content-Length")
    if told is not None and told.isdigit() and len(body) != int(told):
        raise TransientError(f"{len(body)} of {told} bytes arrived")
    return bytes(body)


def _require_status(status: int, url: str) -> None:
    if status in (404, 410):
        raise FileNotFoundError(url)
    if status in (401, 403, 405, 501):  # refused, or not offered, as listing a folder may be
        raise PermissionError(f"the server answers {status}")
    if status in _BUSY:
        raise TransientError(f"the server answers {status}")
    if status >= 300 and status != 416:
        raise ServerError(f"{url}: the server answers {status}")
