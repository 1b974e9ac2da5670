"""Packing a store into a set of zips that opens as one store; the same store gives the same bytes.

The first zip holds all but the videos, and what opening reads lies together at its end. The others
hold whole videos. A zip of videos is named by a digest of what its videos hold. So when a set is
made again, zips whose videos have not changed stay as they are.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zipfile
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from r2t.store.change.pack import PackReport, add_file, add_video, as_others_see_it, write_frame
from r2t.store.check import CARD_NAMES, check_stored_video
from r2t.store.errors import ConfigError, CorruptFeatureError
from r2t.store.feature_store import FeatureStore
from r2t.store.files import appearing, read_plain, write_whole
from r2t.store.format import (
    ZIP_MANIFEST,
    IndexZip,
    VideoRow,
    VideosZip,
    ZipManifest,
    ZipRecord,
    json_digest,
    node_name,
    storage_errors,
)
from r2t.store.progress import OnProgress, no_progress
from r2t.store.sources import StoreRoot, open_root

DEFAULT_ZIP_BYTES = 2 * 10**9
"""Features in one zip: few files for a hub, and little to send again after an interruption."""
MOST_ZIPS = 9000
"""A hub's folder holds fewer than 10,000 files."""

_MOST_OPENING_BYTES = 2**24
_MOST_CARD_BYTES = 2**22
_READ_ON_DEMAND = re.compile(r"parts/queries/[^/]+/(tokens|embedding)/c/")


@dataclass(frozen=True)
class PlannedZip:
    """The videos of one zip; `made` is the zip of an earlier set that holds them already."""

    name: str
    content: str
    rows: tuple[VideoRow, ...]
    made: VideosZip | None = None

    @property
    def nodes(self) -> tuple[str, ...]:
        """The videos' nodes, sorted."""
        return tuple(sorted(node_name(row.video_id) for row in self.rows))


class SetPacker:
    """Makes the zips of one store, one at a time."""

    def __init__(self, location: str | Path) -> None:
        """Open a local store of the current format version; raise `StoreError` for any other."""
        self.root = as_others_see_it(open_root(location))
        self._path = self.root.require_path("pack it")
        self.root.header.require_current(self.root.location)
        self.store = FeatureStore(self.root)

    def plan(self, max_bytes: int, made: Sequence[VideosZip] = ()) -> list[PlannedZip]:
        """Say which videos go into which zip, in order.

        Zips of an earlier set are kept if all their videos are still as they were.
        """
        rows = {node_name(row.video_id): row for row in self.store.video_rows()}
        digests = {node: self._attributes_digest(row) for node, row in rows.items()}
        planned: list[PlannedZip] = []
        for zipped in made:
            same = all(node in rows for node in zipped.nodes)
            if same and _content(digests, zipped.nodes) == zipped.content:
                own = tuple(rows.pop(node) for node in zipped.nodes)
                planned.append(PlannedZip(zipped.name, zipped.content, own, zipped))
        for group in _groups(list(rows.values()), self.root.spec.frame_bytes(), max_bytes):
            content = _content(digests, [node_name(row.video_id) for row in group])
            planned.append(PlannedZip(f"videos-{content[7:23]}.zip", content, tuple(group)))
        if len(planned) > MOST_ZIPS:
            raise ConfigError(
                f"{self.root.location} would take {len(planned)} zips of {max_bytes} bytes, more "
                f"than the {MOST_ZIPS} of a set: give a larger size"
            )
        return planned

    def write_videos(
        self, planned: PlannedZip, target: Path, *, quick: bool, on_video: OnProgress = no_progress
    ) -> VideosZip:
        """Write a zip of videos, each proved first; `quick` trusts the tokens' bytes."""
        with appearing(target) as unfinished:
            with zipfile.ZipFile(unfinished, "w") as archive:
                for number, row in enumerate(planned.rows):
                    checked = check_stored_video(self.root, node_name(row.video_id), quick=quick)
                    if checked.row is None or checked.faults or row.differing(checked.row):
                        raise CorruptFeatureError(
                            f"{self.root.location}: the video {row.video_id!r} is damaged; "
                            "run `r2t store verify`, then `r2t store repair`"
                        )
                    add_video(archive, self.root, self._path, row)
                    on_video(number + 1, len(planned.rows))
            record = zip_record(unfinished, planned.name)
        return VideosZip(**vars(record), content=planned.content, nodes=planned.nodes)

    def write_index(self, folder: Path) -> IndexZip:
        """Write the first zip into a folder, under a name that follows from its bytes."""
        with tempfile.TemporaryDirectory(dir=folder, prefix=".r2t-pack-") as scratch:
            frame, unfinished = Path(scratch, "frame"), Path(scratch, "index.zip")
            rows = sorted(self.store.video_rows(), key=lambda row: row.video_id)
            ids = [each.query_id for each in self.store.annotations()]
            write_frame(self.root, self.store, rows, ids, frame)
            for name, content in card_files(self.root).items():
                (frame / name).write_bytes(content)
            with zipfile.ZipFile(unfinished, "w") as archive:
                opening_start = _add_frame(archive, frame)
            record = zip_record(unfinished, "")
            record = replace(record, name=f"index-{record.sha256[:16]}.zip")
            os.replace(unfinished, folder / record.name)
        if record.list_start - opening_start > _MOST_OPENING_BYTES:
            opening_start = record.list_start
        return IndexZip(**vars(record), opening_start=opening_start)

    def manifest(self, index: IndexZip, videos: Sequence[VideosZip]) -> ZipManifest:
        """Return the manifest of a set that is all made."""
        return ZipManifest(self.store.content_digest(), index, tuple(videos))

    def _attributes_digest(self, row: VideoRow) -> str:
        return self.store.video_attributes(row.video_id)["attributes_digest"]


def pack_zip_set(
    location: str | Path,
    out: Path,
    *,
    max_bytes: int = DEFAULT_ZIP_BYTES,
    quick: bool = False,
    on_video: OnProgress = no_progress,
) -> PackReport:
    """Write a local store as a set of zips into a new folder, of at most about `max_bytes` each.

    Every video is proved first; `quick` trusts the tokens' bytes. The store's card lies beside the
    zips. The manifest is written last: without it there is no set.
    """
    packer = SetPacker(location)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is there already: give a new folder")
    planned = packer.plan(max_bytes)
    total = sum(len(each.rows) for each in planned)
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        made: list[VideosZip] = []
        done = 0
        for each in planned:
            show = _shifted(on_video, done, total)
            target = out / each.name
            made.append(packer.write_videos(each, target, quick=quick, on_video=show))
            done += len(each.rows)
        index = packer.write_index(out)
        for name, content in card_files(packer.root).items():
            write_whole(out / name, content)
        write_whole(out / ZIP_MANIFEST, packer.manifest(index, made).to_json())
    zips = (index, *made)
    num_bytes = sum(each.num_bytes for each in zips)
    archives = tuple(out / each.name for each in zips)
    return PackReport(archives, total, len(packer.store.query_digests()), num_bytes)


def card_files(root: StoreRoot) -> dict[str, bytes]:
    """Return the documents of a store's card by name, if it has one.

    Raises `StoreError` where one is no plain file: a link may lead to what nobody means to send.
    """
    found: dict[str, bytes] = {}
    for name in CARD_NAMES:
        path = root.require_path("pack it") / name
        if path.is_symlink():
            raise CorruptFeatureError(f"{path} is a symbolic link; run `r2t store verify`")
        with suppress(FileNotFoundError):
            found[name] = read_plain(path, _MOST_CARD_BYTES)
    return found


def zip_record(path: Path, name: str) -> ZipRecord:
    """Return what a manifest says of a zip, from its bytes."""
    with zipfile.ZipFile(path) as archive:
        list_start = archive.start_dir
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(list_start)
        members = hashlib.sha256(file.read()).hexdigest()
    return ZipRecord(name, path.stat().st_size, sha256, list_start, members)


def _add_frame(archive: zipfile.ZipFile, frame: Path) -> int:
    """Add all files, those that opening reads last; return where these begin."""
    keys = [path.relative_to(frame).as_posix() for path in frame.rglob("*") if not path.is_dir()]
    later = {key for key in keys if _READ_ON_DEMAND.match(key) is None}
    opening_start = 0
    for key in [*sorted(set(keys) - later), "", *sorted(later)]:
        if key:
            add_file(archive, frame / key, key)
        else:
            opening_start = archive.start_dir
    return opening_start


def _content(digests: dict[str, str], nodes: Collection[str]) -> str:
    return json_digest({node: digests[node] for node in nodes})


def _groups(rows: list[VideoRow], frame_bytes: int, max_bytes: int) -> list[list[VideoRow]]:
    groups: list[list[VideoRow]] = []
    filled = 0
    for row in sorted(rows, key=lambda row: row.video_id):
        size = row.num_frames * frame_bytes
        if not groups or filled + size > max_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(row)
        filled += size
    return groups


def _shifted(on_video: OnProgress, before: int, total: int) -> OnProgress:
    def show(done: float, _: float) -> None:
        on_video(int(before + done), total)

    return show
