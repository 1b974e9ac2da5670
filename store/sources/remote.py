"""Opening the folder behind a URL.

Buckets are asked through obstore, http(s) and hubs by requests of our own, everything else through
fsspec.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import fsspec.core  # pyright: ignore[reportMissingTypeStubs]

from r2t.store.errors import StoreError
from r2t.store.sources.connection import connect, is_bucket
from r2t.store.sources.fsspec_folder import FsspecFolder
from r2t.store.sources.http_folder import HttpFolder
from r2t.store.sources.hub import is_hub_url, open_hub_folder
from r2t.store.sources.sources import Source
from r2t.store.wording import how_to_install

_url_to_fs = cast(
    "Callable[[str], tuple[Any, str]]",
    fsspec.core.url_to_fs,  # pyright: ignore[reportUnknownMemberType]
)
_EXTRAS = {"http": "http", "https": "http"}


def open_folder(url: str) -> Source:
    """Connect lazily; raise `StoreError` if no installed package knows the protocol."""
    if is_hub_url(url):
        return open_hub_folder(url)
    if is_bucket(url):
        return connect(url)
    file_system, path = file_system_of(url)
    protocols = file_system.protocol
    is_http = "http" in ((protocols,) if isinstance(protocols, str) else protocols)
    return (HttpFolder if is_http else FsspecFolder)(url, file_system, path)


def file_system_of(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path in it; raise as `open_folder` does."""
    protocol = url.split("://")[0].split("::")[-1].lower()
    try:
        return _url_to_fs(url)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        advice = how_to_install(extra) if extra else str(error)
        raise StoreError(
            f"cannot open {url}: {protocol} needs a package that is not installed; {advice}"
        ) from error
    except Exception as error:  # each protocol has its own
        raise StoreError(f"cannot open {url}: {error!r}") from error
