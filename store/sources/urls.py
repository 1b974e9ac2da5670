"""URLs told from paths, escaped, and recorded without secrets; loads nothing, not even zarr."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import quote, urlsplit, urlunsplit

_WEB = re.compile(r"((?:[a-z0-9]+::)*)(https?://.*)", re.IGNORECASE | re.DOTALL)
_PLACES = frozenset({"store", "run", "imported", "merged", "subset_of"})
_PUBLIC = "hf://"
_URL = re.compile(r"[a-z][a-z0-9+.-]+://|[a-z0-9]+::", re.IGNORECASE)


def escaped_url(url: str) -> str:
    """Return a URL in which what may not stand in one is escaped, and nothing else."""
    return quote(url, safe="%/:?#[]@!$&'()*+,;=~-._")


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


def without_places(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON values with the last name of every local path and URL, as others may see them.

    Places on a hub are kept. Below some keys every text counts as a place, elsewhere only what
    looks like one.
    """
    return {name: _without_place(value, name in _PLACES) for name, value in record.items()}


def _without_place(value: Any, is_place: bool) -> Any:
    if isinstance(value, Mapping):
        values = cast("Mapping[str, Any]", value)
        return {
            name: _without_place(each, is_place or name in _PLACES) for name, each in values.items()
        }
    if isinstance(value, list | tuple):
        return [_without_place(each, is_place) for each in cast("list[Any]", value)]
    if not isinstance(value, str) or not value or value.startswith(_PUBLIC):
        return value
    return last_name(value) if is_place or is_url(value) or value[0] in "/~" else value
