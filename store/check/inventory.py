"""What lies in a store, file by file, whether the format has a place for it or not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from zarr.core.sync import sync

from r2t.store.format import PartKind, PartNames, group_names, part_place
from r2t.store.sources import Bucket, SourceStore, StoreRoot

CARD_NAMES = ("README.md", "croissant.json")
"""What the owner of a store may have beside its groups, in format version 2."""
EARLIER_NAMES = frozenset({"index", "queries"})
LATER_NAMES = frozenset({"parts"})
"""What only the earlier, or only the later format version has at the root."""


@dataclass(frozen=True)
class StoredFile:
    """One file, named from the folder that was listed; `num_bytes` is None where asking costs."""

    key: str
    num_bytes: int | None = None
    is_link: bool = False


def top_names(version: int) -> set[str]:
    """Return what a store of a format version has at its root."""
    groups = {name.split("/")[0] for name in group_names(version)}
    return {"zarr.json", *groups, *(CARD_NAMES if version > 1 else ())}


def part_names(root: StoreRoot, kind: PartKind) -> list[str]:
    """Return the names in a group of parts; of its manifest where nothing lists it."""
    version = root.header.format_version
    place = part_place(kind, version)
    if _bucket(root) is not None and root.is_listed:  # what has no metadata is being written
        keys = {file.key for file in files_in(root, place)}
        return sorted(
            {key.split("/")[0] for key in keys if f"{key.split('/')[0]}/zarr.json" in keys}
        )
    if root.is_listed:
        return names_in(root, place)
    return PartNames(root.group, root.location, version).now(kind)


def names_in(root: StoreRoot, folder: str) -> list[str]:
    """Return the names of all that lies in a folder, if there is one, `zarr.json` left out."""
    names: Iterable[str] = ()
    if root.path is not None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            names = os.listdir(root.path / folder)
    elif (bucket := _bucket(root)) is not None:
        names = (name.rstrip("/") for name in bucket.names(folder))
    else:
        names = {key.split("/")[0] for key in _keys(root, folder)}
    return sorted(set(names) - {"zarr.json"})


def files_in(root: StoreRoot, folder: str) -> Iterator[StoredFile]:
    """Yield every file below a folder; links are yielded as such and never followed.

    Raises `NotListedError` where nothing is listed.
    """
    if (bucket := _bucket(root)) is not None:
        prefix = f"{folder}/" if folder else ""
        for key, found in bucket.objects_below(folder).items():
            yield StoredFile(key.removeprefix(prefix), found.num_bytes)
        return
    if root.path is None:
        yield from (StoredFile(key) for key in _keys(root, folder))
        return
    top = root.path / folder
    if top.is_symlink() or not top.is_dir():
        yield StoredFile("", is_link=top.is_symlink())
        return
    waiting = [""]
    while waiting:
        parent = waiting.pop()
        with os.scandir(top / parent) as entries:
            for entry in entries:
                key = f"{parent}{entry.name}"
                if entry.is_symlink():
                    yield StoredFile(key, is_link=True)
                elif entry.is_dir():
                    waiting.append(f"{key}/")
                else:
                    yield StoredFile(key, entry.stat().st_size)


def _bucket(root: StoreRoot) -> Bucket | None:
    source = root.group.store.source if isinstance(root.group.store, SourceStore) else None
    return source if isinstance(source, Bucket) else None


def _keys(root: StoreRoot, folder: str) -> list[str]:
    prefix = f"{root.group.path}/{folder}/".lstrip("/") if folder else ""

    async def collect() -> list[str]:
        return [key async for key in root.group.store.list_prefix(prefix)]

    return [key.removeprefix(prefix) for key in sync(collect())]
