"""The manifest of a store that is packed into several zips: which zip holds what, and its digests.

`r2t-zips.json` lies beside the zips. The first zip, `index`, holds all of the store but the videos;
each of the others holds whole videos and nothing else. docs/store-format.md describes version 1.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from r2t.store.errors import CorruptFeatureError, StoreError
from r2t.store.format.canonical_json import is_sealed, sealed

ZIP_MANIFEST = "r2t-zips.json"
MANIFEST_DIGEST = "manifest_digest"
ZIPS_VERSION = 1

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\.zip")
_NODE = re.compile(r"[A-Za-z0-9_%~-][A-Za-z0-9._%~-]{0,255}")
_HEX = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TOP = ("content", "index", MANIFEST_DIGEST, "videos", "zips_version")
_OF_EACH = ("bytes", "list_sha256", "list_start", "name", "sha256")


@dataclass(frozen=True)
class ZipRecord:
    """A zip of a set: its name, its size, and the digests of it and of its list of members.

    The list of members takes the bytes from `list_start` to the end of the zip.
    """

    name: str
    num_bytes: int
    sha256: str
    list_start: int
    list_sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        values = dataclasses.asdict(self)
        return {"name": values.pop("name"), "bytes": values.pop("num_bytes"), **values}


@dataclass(frozen=True)
class IndexZip(ZipRecord):
    """The zip of all that is no video; what opening a store reads lies from `opening_start` on."""

    opening_start: int


@dataclass(frozen=True)
class VideosZip(ZipRecord):
    """A zip of whole videos, those of `nodes`; `content` is a digest of what they say they hold."""

    content: str
    nodes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return {**super().to_dict(), "nodes": list(self.nodes)}


@dataclass(frozen=True)
class ZipManifest:
    """All zips of a set; `content` is the digest of the store's content."""

    content: str
    index: IndexZip
    videos: tuple[VideosZip, ...]

    def to_json(self) -> str:
        """Return the text of the file, under its digest."""
        values = {
            "zips_version": ZIPS_VERSION,
            "content": self.content,
            "index": self.index.to_dict(),
            "videos": [each.to_dict() for each in self.videos],
        }
        return json.dumps(sealed(values, MANIFEST_DIGEST), indent=1) + "\n"

    @classmethod
    def from_json(cls, content: bytes, location: str) -> ZipManifest:
        """Read what `to_json` wrote.

        Raises:
            StoreError: if a newer r2t wrote it.
            CorruptFeatureError: if it is damaged, or no manifest; a `StoreError`, too.
        """
        found = _read(content, location, _TOP)
        try:
            manifest = cls(
                _matching(found["content"], _DIGEST),
                _index(found["index"], location),
                tuple(_videos(each, location) for each in _list(found["videos"])),
            )
            manifest._require_once()
        except (TypeError, ValueError) as error:
            if isinstance(error, StoreError):
                raise
            raise CorruptFeatureError(f"{location} is damaged: {error}") from error
        return manifest

    def zips(self) -> tuple[ZipRecord, ...]:
        """Return all zips, the index first."""
        return self.index, *self.videos

    def _require_once(self) -> None:
        names = Counter(each.name.lower() for each in self.zips())
        nodes = Counter(node for each in self.videos for node in each.nodes)
        for kind, counts in (("zip", names), ("video", nodes)):
            if twice := sorted(name for name, count in counts.items() if count > 1):
                raise ValueError(f"it names the {kind} {twice[0]!r} twice")


def unfinished_to_json(videos: Sequence[VideosZip]) -> str:
    """Return the records of zips of a set that is not all made yet, under a digest."""
    values = {"zips_version": ZIPS_VERSION, "videos": [each.to_dict() for each in videos]}
    return json.dumps(sealed(values, MANIFEST_DIGEST), indent=1) + "\n"


def unfinished_from_json(content: bytes, location: str) -> tuple[VideosZip, ...]:
    """Read what `unfinished_to_json` wrote; raises as `ZipManifest.from_json` does."""
    found = _read(content, location, ("videos", "zips_version", MANIFEST_DIGEST))
    try:
        return tuple(_videos(each, location) for each in _list(found["videos"]))
    except (TypeError, ValueError) as error:
        if isinstance(error, StoreError):
            raise
        raise CorruptFeatureError(f"{location} is damaged: {error}") from error


def _read(content: bytes, location: str, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CorruptFeatureError(f"{location} is no manifest of zips: {error}") from error
    if not isinstance(values, dict) or "zips_version" not in values:
        raise CorruptFeatureError(f"{location} is no manifest of zips")
    found = cast("dict[str, Any]", values)
    version = found["zips_version"]
    if type(version) is not int or not 1 <= version <= ZIPS_VERSION:
        raise StoreError(
            f"{location} has version {version!r}, this r2t reads versions up to "
            f"{ZIPS_VERSION}; install a newer r2t"
        )
    _require_keys(found, keys, location, "it")
    if not is_sealed(found, MANIFEST_DIGEST):
        raise CorruptFeatureError(
            f"{location} is damaged: it is not what its {MANIFEST_DIGEST} says; fetch it again"
        )
    return found


def _index(found: Any, location: str) -> IndexZip:
    values = _record(found, ("opening_start",), location)
    own = IndexZip(**_common(values), opening_start=_count(values["opening_start"]))
    if own.opening_start > own.list_start:
        raise ValueError(f"opening_start = {own.opening_start} lies in the list of members")
    return own


def _videos(found: Any, location: str) -> VideosZip:
    values = _record(found, ("content", "nodes"), location)
    nodes = tuple(_matching(node, _NODE) for node in _list(values["nodes"]))
    return VideosZip(**_common(values), content=_matching(values["content"], _DIGEST), nodes=nodes)


def _record(found: Any, more: tuple[str, ...], location: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise TypeError(f"{found!r} is no record of a zip")
    values = cast("dict[str, Any]", found)
    _require_keys(values, (*_OF_EACH, *more), location, "a zip")
    return values


def _common(values: Mapping[str, Any]) -> dict[str, Any]:
    num_bytes, list_start = _count(values["bytes"]), _count(values["list_start"])
    if list_start >= num_bytes:
        raise ValueError(f"list_start = {list_start} lies behind the end of {values['name']!r}")
    return {
        "name": _matching(values["name"], _FILE),
        "num_bytes": num_bytes,
        "sha256": _matching(values["sha256"], _HEX),
        "list_start": list_start,
        "list_sha256": _matching(values["list_sha256"], _HEX),
    }


def _require_keys(
    values: Mapping[str, Any], legal: tuple[str, ...], location: str, what: str
) -> None:
    if unknown := sorted(set(values) - set(legal)):
        raise StoreError(
            f"{location}: this r2t does not know what the manifest says of {', '.join(unknown)}: "
            "it was written by a newer r2t; install that"
        )
    if missing := sorted(set(legal) - set(values)):
        raise CorruptFeatureError(f"{location} is damaged: {what} lacks {', '.join(missing)}")


def _matching(value: Any, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{value!r} is not legal there")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return cast("list[Any]", value)
