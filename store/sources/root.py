"""Opening a store as far as its header: what is known before any part or video is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import zarr
from zarr.core.group import AsyncGroup, GroupMetadata
from zarr.core.sync import sync
from zarr.errors import ContainsArrayError, GroupNotFoundError
from zarr.storage import StorePath

from r2t.store.errors import CorruptFeatureError, NotListedError, StoreError
from r2t.store.format import (
    ZARR_ERRORS,
    ZIP_MANIFEST,
    FolderStore,
    StoreHeader,
    attributes_of,
    open_group,
    part_place,
)
from r2t.store.schema import FeatureSpec
from r2t.store.sources.cache import ByteCache
from r2t.store.sources.remote import open_folder
from r2t.store.sources.source_store import SourceStore
from r2t.store.sources.sources import Source
from r2t.store.sources.urls import is_url
from r2t.store.sources.zip_set import ZipSet, open_zip_set
from r2t.store.sources.zipped import ZippedFolder

_ZIP = re.compile(r"zip(://)?::", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class StoreRoot:
    """The group of a store and what its header says; `path` is None where it is not a folder."""

    location: str
    group: zarr.Group
    path: Path | None
    header: StoreHeader

    @property
    def spec(self) -> FeatureSpec:
        """How the features were made."""
        return self.header.spec

    @cached_property
    def is_listed(self) -> bool:
        """Whether its folders can be listed; a server may serve files and no more."""
        try:
            store = self.group.store
            if isinstance(store, SourceStore):
                store.source.names(part_place("index", self.header.format_version))
        except NotListedError:
            return False
        return True

    def require_path(self, action: str) -> Path:
        """Return the store's folder; raise `StoreError` if it has none on this machine."""
        if self.path is None:
            raise StoreError(f"{self.location} is remote: copy it to a local disk to {action}")
        return self.path


def open_root(
    location: str | Path,
    cache: ByteCache | None = None,
    read_header: Callable[[zarr.Group, str], StoreHeader] | None = None,
) -> StoreRoot:
    """Open a store as far as its header: a folder or a zip on this machine, or a URL.

    `cache` keeps tokens of a store that is not on this machine. `read_header` is called in place of
    `read_header_of`, and with a group without attributes where those cannot be read.
    """
    text = str(location)
    # Resolved, because unfinished work must lie on the disk that the store is really on.
    path = None if is_url(text) else Path(text).resolve()
    if path is not None and not path.exists():
        raise StoreError(f"{text} does not exist; `r2t extract --store {text}` makes it")
    if path is None:
        store = SourceStore(_remote_source(text), cache)
    elif (source := _local_source(text, path)) is not None:
        path, store = None, SourceStore(source, cache)
    else:
        store = FolderStore(path, read_only=True)
    try:
        group = _open_group(store, text)
        header = (read_header or read_header_of)(group, text)
    except _UnreadableError as unreadable:
        if read_header is None:
            raise
        group = zarr.Group(AsyncGroup(GroupMetadata(), StorePath(store)))
        try:
            header = read_header(group, text)
        except StoreError:
            raise unreadable from None
    return StoreRoot(text, group, path, header)


class _UnreadableError(CorruptFeatureError):
    """The metadata of a store's root cannot be read."""


def _open_group(store: FolderStore | SourceStore, location: str) -> zarr.Group:
    """Open the root of a store; a remote folder without one may hold a set of zips."""
    try:
        return open_group(store, "r")
    except (GroupNotFoundError, FileNotFoundError, ContainsArrayError) as error:
        if isinstance(store, SourceStore) and not isinstance(store.source, ZipSet):
            zips = open_zip_set(location.rstrip("/"), store.source)
            if zips is not None:
                return _open_group(SourceStore(zips, store.cache), location)
        if sync(store.exists("videos/zarr.json")):
            raise StoreError(
                f"{location}/zarr.json is missing, though the rest of a store is there: was it "
                "copied halfway? Copy it again"
            ) from error
        raise StoreError(f"{location} is no Zarr v3 group, so no r2t feature store") from error
    except StoreError:
        raise
    except ZARR_ERRORS as error:
        raise _UnreadableError(
            f"cannot read {location}/zarr.json: {error!r}; `r2t store repair` restores what the "
            "store's parts repeat of it, and another copy of the store has it all"
        ) from error


def _local_source(location: str, path: Path) -> Source | None:
    """Return the zip or the set of zips that a path names; None if it is a plain folder."""
    if path.is_file() and path.suffix.lower() == ".zip":
        return ZippedFolder(path)
    folder = path.parent if path.name == ZIP_MANIFEST else path
    return open_zip_set(location.removesuffix(f"/{ZIP_MANIFEST}"), folder)


def _remote_source(url: str) -> Source:
    """Return the files behind a URL: a zip, named by `zip::` or its suffix, a set, or a folder."""
    if zipped := _ZIP.match(url):
        inner = url[zipped.end() :]
        return ZippedFolder(inner if is_url(inner) else Path(inner).resolve())
    if urlsplit(url).path.lower().endswith(".zip"):
        return ZippedFolder(url)
    base = url.removesuffix(f"/{ZIP_MANIFEST}")
    folder = open_folder(base)
    return folder if base == url else open_zip_set(base, folder) or folder


def read_header_of(group: zarr.Group, location: str) -> StoreHeader:
    """Return the header in the attributes of a root."""
    found = attributes_of(group).get("r2t")
    if not isinstance(found, dict):
        raise StoreError(f"{location} is a Zarr group but no r2t feature store")
    return StoreHeader.from_dict(cast("dict[str, Any]", found), location)
