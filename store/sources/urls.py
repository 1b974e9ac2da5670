"""Telling a URL from a path; alone, so that a command's help need not load zarr."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit, urlunsplit

_WEB = re.compile(r"((?:[a-z0-9]+::)*)(https?://.*)", re.IGNORECASE | re.DOTALL)
_URL = re.compile(r"[a-z][a-z0-9+.-]+://|[a-z0-9]+::", re.IGNORECASE)


def is_url(location: str | Path) -> bool:
    """Whether a location is a URL rather than a path."""
    return _URL.match(str(location)) is not None


def last_name(location: str) -> str:
    """Return the last part of a path or URL: the rest tells where somebody keeps their files."""
    if "://" in location:
        parts = urlsplit(location)
        return PurePosixPath(parts.path).name or parts.hostname or parts.scheme
    return Path(location).resolve().name


def without_credentials(location: str) -> str:
    """Return a path or URL as a record may hold it: without an http(s) URL's user and query."""
    found = _WEB.fullmatch(location)
    if found is None:
        return location
    parts = urlsplit(found[2])
    host = parts.netloc.rpartition("@")[2]
    return found[1] + urlunsplit((parts.scheme, host, parts.path, "", ""))
