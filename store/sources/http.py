"""Requests over http(s): bounded in size, given up when nothing comes, redirected with care.

fsspec reads a whole file where a server ignores the range that was asked for, takes whatever number
of bytes is sent, and follows a redirection anywhere. So requests are made here, with the options
that fsspec was configured with. Hubs and releases pass requests on to the host that stores a file.
That host never gets the credentials, is named once, and must not be one that the first server could
not reach but this machine can: a public server may not pass requests on to a private address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import warnings
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, cast
from urllib.parse import quote, urljoin, urlsplit

import fsspec.asyn  # pyright: ignore[reportMissingTypeStubs]

from r2t.store.errors import ServerError, ServerWarning, StoreError
from r2t.store.format import MAX_WHOLE_BYTES
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
_LEGAL_IN_URLS = "%/:?#[]@!$&'()*+,;=~-._"
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/([0-9]{1,19})")
_AROUND_IPV4 = frozenset({0, 0xFFFF << 16, 0x64FF9B << 64})
"""The first 96 bits of IPv6 addresses that stand for one of IPv4: ::, ::ffff:0:0, 64:ff9b::."""
_LOCAL_NAT64 = 0x64FF9B0001
_FOR_STRANGERS = ("proxy", "ssl")  # options that carry no credentials for the first server


class _RefusedError(Exception):
    """An address that a server may not send this machine to."""


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
        self._origin = _origin(url)
        self._sessions: dict[bool, Any] = {}
        self._is_public: bool | None = None  # the server, once its address is known
        self._named: set[str] = set()

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
        if _origin(url) != self._origin:
            self._ask(self._know_own_address)
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

    async def _know_own_address(self) -> None:
        """Look whether this server is a public one, before it has others asked for its files."""
        host, port = self._origin[1:]
        if self._is_public is None:
            with suppress(OSError):  # behind a proxy, which then connects for this machine
                found = await asyncio.get_running_loop().getaddrinfo(host, port)
                self.judge(host, [str(each[4][0]) for each in found])

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
            is_own = _origin(current) == self._origin
            options = {
                name: value
                for name, value in self._fs.kwargs.items()
                if is_own or name in _FOR_STRANGERS
            }
            options["headers"] = {**options.get("headers", {}), **headers}
            try:
                self._judge_literal(current)
                response = await self._session(is_own).request(
                    method, _exactly(current), allow_redirects=False, timeout=timeout, **options
                )
            except _RefusedError as error:
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
                    self._keep(method, url, current)
                    yield response
                    return
            current = self._followed(url, current, target)
        raise ServerError(
            f"{url}: the server redirects the request more than {_MAX_REDIRECTS} times"
        )

    def _keep(self, method: str, url: str, current: str) -> None:
        """Remember where a request was answered at last; the oldest of very many are forgotten."""
        if self._keeps_redirects and current != url:
            self._moved[method, url] = current
            if len(self._moved) > _MOST_KEPT:
                del self._moved[next(iter(self._moved))]

    def _followed(self, url: str, current: str, target: str) -> str:
        """Return where a redirection leads, if it may be followed."""
        following = quote(urljoin(current, target), safe=_LEGAL_IN_URLS)
        before, after = urlsplit(current), urlsplit(following)
        legal = ("https",) if before.scheme == "https" else ("http", "https")
        if after.scheme not in legal or not after.hostname:
            raise ServerError(
                f"{url}: the server redirects the request to "
                f"{after.scheme}://{after.hostname}, which is not followed: only "
                f"{' and '.join(legal)} is"
            )
        host = after.hostname
        if host != urlsplit(url).hostname and host not in self._named:
            self._named.add(host)
            warnings.warn(
                f"{urlsplit(url).hostname} redirects requests to {host}, which gets no credentials",
                ServerWarning,
                stacklevel=2,
            )
        return following

    def _session(self, is_own: bool) -> Any:
        """Return a session on fsspec's loop, for the server itself or for others."""
        import aiohttp

        if is_own not in self._sessions:
            given: dict[str, Any] = dict(self._fs.client_kwargs)
            if not is_own:
                given = {"trust_env": given["trust_env"]} if "trust_env" in given else {}
            options: dict[str, Any] = {
                "connector": aiohttp.TCPConnector(resolver=_resolver(self)),
                **given,
            }
            session = aiohttp.ClientSession(**options)
            weakref.finalize(self, self._fs.close_session, self._fs.loop, session)
            self._sessions[is_own] = session
        return self._sessions[is_own]

    def _judge_literal(self, url: str) -> None:
        """Judge an address that a URL gives as such, which is not resolved."""
        host = urlsplit(url).hostname or ""
        try:
            ipaddress.ip_address(host.partition("%")[0])
        except ValueError as error:
            if host and host.replace(".", "").isdigit():  # 127.1, which aiohttp does not resolve
                raise _RefusedError(f"{host} is no address as it is written in full") from error
            return
        self.judge(host, [host])

    def judge(self, host: str, addresses: list[str]) -> None:
        """Raise unless a host may be connected to at these addresses.

        They are those that are connected to, so that a name which resolves to another address the
        next time gains nothing.
        """
        public = [_is_public(address) for address in addresses]
        if host == self._origin[1] and self._is_public is None:
            self._is_public = any(public)
        if self._is_public and not all(public):
            raise _RefusedError(
                f"this leads from a public server to {host} at {', '.join(addresses)}, which is a "
                "private address: it is not followed"
            )


def _resolver(client: HttpClient) -> Any:
    """Return aiohttp's resolver, which shows the client each address before it is used."""
    import aiohttp
    from aiohttp.abc import AbstractResolver

    own = weakref.ref(client)

    class Resolver(AbstractResolver):
        def __init__(self) -> None:
            self._inner = aiohttp.DefaultResolver()

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> Any:
            found = await self._inner.resolve(host, port, family)
            judge = own()
            if judge is not None:
                judge.judge(host, [each["host"] for each in found])
            return found

        async def close(self) -> None:
            await self._inner.close()

    return Resolver()


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if int(found) >> 80 == _LOCAL_NAT64:
            return False
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and int(found) >> 32 in _AROUND_IPV4:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        found = inner or found
    return found.is_global and not found.is_multicast


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, parts.hostname or "", port


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
