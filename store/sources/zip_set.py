"""A store in several zips that a manifest names, of which only what is asked for is read.

Opening takes two requests: the manifest and the end of the first zip hold all that a store says of
itself. A zip of videos is opened when one of its videos is asked for, by one request for its list
of members. The manifest has the digest of that list, so that a zip that was swapped or cut is
refused by name.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from r2t.store.errors import CorruptFeatureError, StoreError
from r2t.store.files import explain, read_plain
from r2t.store.format import ZIP_MANIFEST, IndexZip, VideosZip, ZipManifest, ZipRecord
from r2t.store.sources.sources import MAX_READ_BYTES, Source
from r2t.store.sources.zipped import LocalFile, RangedFile, RemoteFile, ZippedFolder, ZipSeal

_MOST_OPEN = 256  # zips whose lists of members are kept: about half a megabyte each
_VIDEOS = "videos"


class ZipSet:
    """The members of all zips of a set; a `Source`."""

    def __init__(self, location: str, folder: Path | Source, manifest: ZipManifest) -> None:
        """Open the first zip; `folder` is where the zips lie."""
        self.location = location
        self.manifest = manifest
        self._folder = folder
        self._index = self._opened(manifest.index)
        if stray := set(self._index.names(_VIDEOS)) - {"zarr.json"}:
            raise CorruptFeatureError(
                f"{self._index.location} claims the video {min(stray).rstrip('/')!r}, which the "
                "manifest does not give to it"
            )
        self._zip_of = {node: each for each in manifest.videos for node in each.nodes}
        self._open: OrderedDict[str, ZippedFolder] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """Return the bytes from start to stop, fewer where the file ends; None if there is none."""
        source = self._source(key)
        return None if source is None else source.read(key, start, stop)

    def size(self, key: str) -> int | None:
        """Return the size of a file in bytes; None if there is none."""
        source = self._source(key)
        return None if source is None else source.size(key)

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; those of folders end with a slash."""
        if folder == _VIDEOS:
            return sorted([*(f"{node}/" for node in self._zip_of), *self._index.names(folder)])
        source = self._source(folder)
        return [] if source is None else source.names(folder)

    def local_file(self, key: str) -> tuple[Path, int] | None:
        """Return the zip and where in it a file begins, if the set is on this machine."""
        source = self._source(key)
        return None if source is None else source.local_file(key)

    def _source(self, key: str) -> ZippedFolder | None:
        """Return the zip that holds a key, opened; None if no zip does."""
        top, _, rest = key.partition("/")
        if top != _VIDEOS or rest in ("", "zarr.json"):
            return self._index
        record = self._zip_of.get(rest.split("/")[0])
        return None if record is None else self._zip(record)

    def _zip(self, record: VideosZip) -> ZippedFolder:
        with self._lock:
            found = self._open.get(record.name)
            if found is not None:
                self._open.move_to_end(record.name)
                return found
        found = self._opened(record)
        _require_own(found, record)
        with self._lock:
            self._open[record.name] = found
            while len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
        return found

    def _opened(self, record: ZipRecord) -> ZippedFolder:
        kept = record.opening_start if isinstance(record, IndexZip) else record.list_start
        seal = ZipSeal(record.num_bytes, record.list_start, record.list_sha256, kept)
        return ZippedFolder(self._file(record.name), seal)

    def _file(self, name: str) -> RangedFile:
        if isinstance(self._folder, Path):
            path = self._folder / name
            if path.is_symlink() or (path.exists() and not path.is_file()):
                raise CorruptFeatureError(f"{path} is no plain file")
            return LocalFile(path)
        return RemoteFile(f"{self.location}/{name}", self._folder, name)


def open_zip_set(location: str, folder: Path | Source) -> ZipSet | None:
    """Open the set whose manifest lies in a folder; None if there is no manifest."""
    content = read_manifest(location, folder)
    if content is None:
        return None
    return ZipSet(location, folder, ZipManifest.from_json(content, f"{location}/{ZIP_MANIFEST}"))


def read_manifest(location: str, folder: Path | Source) -> bytes | None:
    """Return the manifest's bytes, None if there is none; raise `StoreError` if it is too large."""
    name = f"{location}/{ZIP_MANIFEST}"
    if not isinstance(folder, Path):
        content = folder.read(ZIP_MANIFEST, 0, MAX_READ_BYTES)
        if content is not None and len(content) == MAX_READ_BYTES:
            raise StoreError(f"{name} is larger than {MAX_READ_BYTES} bytes")
        return content
    try:
        return read_plain(folder / ZIP_MANIFEST, MAX_READ_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(f"cannot read {name}: {explain(error)}") from error


def _require_own(opened: ZippedFolder, record: VideosZip) -> None:
    """Raise `CorruptFeatureError` unless a zip holds its videos and nothing else."""
    tops = opened.names("")
    found = {name.rstrip("/") for name in opened.names(_VIDEOS)}
    if tops != [f"{_VIDEOS}/"] or found != set(record.nodes):
        other = sorted(found ^ set(record.nodes)) or [name for name in tops if name != "videos/"]
        raise CorruptFeatureError(
            f"{opened.location} does not hold exactly the videos that the manifest gives to it: "
            f"{other[0]!r} differs"
        )
