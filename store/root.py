"""Opening a store as far as its header: what is known before any part or video is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import zarr
from zarr.errors import ContainsArrayError, GroupNotFoundError

from r2t.store.errors import StoreError
from r2t.store.nodes import open_group
from r2t.store.schema import FORMAT_VERSION, FeatureSpec

_URL = re.compile(r"[a-z][a-z0-9+.-]+://|[a-z0-9]+::", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class StoreRoot:
    """The group of a store and what its header says; `path` is None where it is not a folder."""

    location: str
    group: zarr.Group
    path: Path | None
    spec: FeatureSpec
    provenance: dict[str, Any]

    def require_path(self, action: str) -> Path:
        """Return the store's folder; raise `StoreError` if it has none on this machine."""
        if self.path is None:
            raise StoreError(f"{self.location} is remote: copy it to a local disk to {action}")
        return self.path


def is_url(location: str | Path) -> bool:
    """Whether a location is one that fsspec opens, rather than a path."""
    return _URL.match(str(location)) is not None


def open_root(location: str | Path) -> StoreRoot:
    """Open a store on this machine, or at any URL that fsspec knows, and check its header."""
    text = str(location)
    # Resolved, because unfinished work must lie on the disk that the store is really on.
    path = None if is_url(text) else Path(text).resolve()
    if path is not None and not path.exists():
        raise StoreError(f"{text} does not exist; `r2t extract --store {text}` makes it")
    if path is not None and path.suffix == ".zip" and path.is_file():
        return open_root(f"zip::{path}")
    try:
        group = open_group(text if path is None else str(path), "r")
    except (GroupNotFoundError, FileNotFoundError, ContainsArrayError) as error:
        raise StoreError(f"{text} is no Zarr v3 group, so no r2t feature store") from error
    except Exception as error:  # those of zarr, fsspec and each protocol's own client
        raise StoreError(f"cannot open {text}: {error!r}") from error
    return StoreRoot(text, group, path, *_read_header(group, text))


def _read_header(group: zarr.Group, location: str) -> tuple[FeatureSpec, dict[str, Any]]:
    found = group.attrs.get("r2t")
    if not isinstance(found, dict):
        raise StoreError(f"{location} is a Zarr group but no r2t feature store")
    header = cast("dict[str, Any]", found)
    if header.get("format_version") != FORMAT_VERSION:
        raise StoreError(
            f"{location} has format version {header.get('format_version')!r}, this r2t reads "
            f"version {FORMAT_VERSION}; install a newer r2t"
        )
    identity, provenance = header.get("identity"), header.get("provenance")
    if not (isinstance(identity, dict) and isinstance(provenance, dict)):
        raise StoreError(f"{location}: the store's identity or provenance is damaged")
    spec = FeatureSpec.from_dict(cast("dict[str, Any]", identity))
    return spec, cast("dict[str, Any]", provenance)
