"""Where a server may send requests on to: which redirections and addresses are followed.

Hubs and releases pass requests on to the host that stores a file. That host never gets the
credentials, is named once, and must not be one that the first server could not reach but this
machine can: a public server may not pass requests on to a private address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import warnings
from contextlib import suppress
from typing import Any
from urllib.parse import urljoin, urlsplit

from r2t.store.errors import ServerError, ServerWarning
from r2t.store.sources.urls import escaped_url

_AROUND_IPV4 = frozenset({0, 0xFFFF << 16, 0x64FF9B << 64})
"""The first 96 bits of IPv6 addresses that stand for one of IPv4: ::, ::ffff:0:0, 64:ff9b::."""
_LOCAL_NAT64 = 0x64FF9B0001


class RefusedError(Exception):
    """An address that a server may not send this machine to."""


class RedirectRules:
    """The rules for requests to one server, and to those that it passes them on to."""

    def __init__(self, url: str) -> None:
        """Take any URL of the server."""
        self._origin = _origin(url)
        self._is_public: bool | None = None  # the server, once its address is known
        self._named: set[str] = set()

    def is_own(self, url: str) -> bool:
        """Whether a URL is of the server itself."""
        return _origin(url) == self._origin

    async def look_up_own_address(self) -> None:
        """Look whether this server is a public one, before it has others asked for its files."""
        _, host, port = self._origin
        if self._is_public is None:
            with suppress(OSError):  # behind a proxy, which then connects for this machine
                found = await asyncio.get_running_loop().getaddrinfo(host, port)
                self.judge(host, [str(each[4][0]) for each in found])

    def followed(self, url: str, current: str, target: str) -> str:
        """Return where a redirection leads; raise `ServerError` if it may not be followed."""
        following = escaped_url(urljoin(current, target))
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

    def judge_literal(self, url: str) -> None:
        """Judge an address that a URL gives as such, which is not resolved."""
        host = urlsplit(url).hostname or ""
        try:
            ipaddress.ip_address(host.partition("%")[0])
        except ValueError as error:
            if host and host.replace(".", "").isdigit():  # 127.1, which aiohttp does not resolve
                raise RefusedError(f"{host} is no address as it is written in full") from error
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
            raise RefusedError(
                f"this leads from a public server to {host} at {', '.join(addresses)}, which is a "
                "private address: it is not followed"
            )

    def resolver(self) -> Any:
        """Return aiohttp's resolver, which shows each address to `judge` before it is used."""
        import aiohttp
        from aiohttp.abc import AbstractResolver

        judge = self.judge

        class Resolver(AbstractResolver):
            def __init__(self) -> None:
                self._inner = aiohttp.DefaultResolver()

            async def resolve(
                self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
            ) -> Any:
                found = await self._inner.resolve(host, port, family)
                judge(host, [each["host"] for each in found])
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
