"""Packing a store into uncompressed zip archives, each a store of its own that is read in place.

Nothing is extracted by the names in an archive: unpacking is a merge, which asks an archive for
the files that the format has, checks them, and commits video by video.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from r2t.store.check import expected_files, files_in, part_names
from r2t.store.empty_store import write_groups
from r2t.store.errors import ConfigError, CorruptFeatureError
from r2t.store.feature_store import FeatureStore
from r2t.store.files import appearing
from r2t.store.format import (
    KINDS,
    QUERIES_PER_PART,
    Columns,
    PartKind,
    VideoRow,
    columns_digest,
    node_name,
    part_place,
    query_columns,
    storage_errors,
    video_columns,
    write_part,
)
from r2t.store.progress import OnProgress, no_progress
from r2t.store.sources import StoreRoot, open_root, without_places

_Rows = list[VideoRow]
_TIME = re.compile(r"(?<![^ ])[0-9]{8}T[0-9]{12}(?=-)")  # of a part's name
_NO_TIME = "00000000T000000000000"


@dataclass(frozen=True)
class PackReport:
    """The archives that were made, and what is in them."""

    archives: tuple[Path, ...]
    num_videos: int
    num_queries: int
    num_bytes: int


def pack_store(
    location: str | Path,
    out: Path,
    *,
    max_bytes: int | None = None,
    on_video: OnProgress = no_progress,
) -> PackReport:
    """Write a local store as one zip, or as several of at most about `max_bytes` of features.

    Several are named `<stem>-001.zip` and so on. A query goes with its video; those of videos that
    are not stored go into the first. Nothing is compressed: features hardly shrink, and so a byte
    of a video is a byte of the archive.
    """
    root = as_others_see_it(open_root(location))
    path = root.require_path("pack it")
    store = FeatureStore(root)
    groups = _groups(store, max_bytes)
    targets = _targets(out, len(groups))
    names = {row.video_id: number for number, rows in enumerate(groups) for row in rows}
    annotations = store.annotations()
    num_done = 0
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        for number, (rows, target) in enumerate(zip(groups, targets, strict=True)):
            with (
                appearing(target) as unfinished,
                zipfile.ZipFile(unfinished, "w") as archive,
                tempfile.TemporaryDirectory(dir=out.parent, prefix=".r2t-pack-") as scratch,
            ):
                ids = [q.query_id for q in annotations if names.get(q.video_id, 0) == number]
                frame = Path(scratch, "frame")
                write_frame(root, store, rows, ids, frame)
                for file in sorted(path for path in frame.rglob("*") if path.is_file()):
                    add_file(archive, file, file.relative_to(frame).as_posix())
                for row in rows:
                    add_video(archive, root, path, row)
                    num_done += 1
                    on_video(num_done, len(names))
    return PackReport(
        tuple(targets),
        num_done,
        len(store.query_digests()),
        sum(target.stat().st_size for target in targets),
    )


def as_others_see_it(root: StoreRoot) -> StoreRoot:
    """Return a store whose provenance has the last names of paths and URLs alone.

    So it is packed, however it then travels: the rest tells where somebody keeps their files.
    """
    header = root.header
    return replace(root, header=replace(header, provenance=without_places(header.provenance)))


def _groups(store: FeatureStore, max_bytes: int | None) -> list[_Rows]:
    groups: list[_Rows] = [[]]
    filled = 0
    # Sorted, because runs index in the order in which they finish: one store, one set of archives.
    for row in sorted(store.video_rows(), key=lambda row: row.video_id):
        size = row.num_frames * store.spec.frame_bytes()
        if groups[-1] and max_bytes is not None and filled + size > max_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(row)
        filled += size
    return groups


def _targets(out: Path, count: int) -> list[Path]:
    if out.suffix != ".zip":
        raise ConfigError(f"{out}: give a name that ends in .zip")
    targets = [out]
    if count > 1:
        targets = [out.with_name(f"{out.stem}-{number + 1:03}.zip") for number in range(count)]
    for target in targets:
        if target.exists():
            raise ConfigError(f"{target} is there already: give a new file")
    return targets


def write_frame(
    root: StoreRoot, store: FeatureStore, rows: _Rows, query_ids: Sequence[str], folder: Path
) -> None:
    """Write a store that names these videos and holds these queries, but no features of videos.

    Its parts are named by their content and the time of the store's newest, so that the same store
    gives the same bytes.
    """
    times = _TIME.findall(" ".join(name for kind in KINDS for name in part_names(root, kind)))
    time, version = max(times, default=_NO_TIME), root.header.format_version
    names: dict[PartKind, list[str]] = {kind: [] for kind in KINDS}

    def write(kind: PartKind, columns: Columns) -> None:
        digest = columns_digest(sorted(columns.items())).removeprefix("sha256:")
        name = f"{time}-{len(names[kind]):04x}{digest[:8]}"
        write_part(folder / part_place(kind, version) / name, columns, version=version)
        names[kind].append(name)

    if rows:
        write("index", video_columns(rows))
    annotations = {each.query_id: each for each in store.annotations()}
    for start in range(0, len(query_ids), QUERIES_PER_PART):
        ids = query_ids[start : start + QUERIES_PER_PART]
        features = [store.read_query(query_id) for query_id in ids]
        write("queries", query_columns([annotations[query_id] for query_id in ids], features))
    parts = {kind: tuple(found) for kind, found in names.items()}
    write_groups(folder, replace(root.header, parts=parts))


def add_file(archive: zipfile.ZipFile, file: Path, key: str) -> None:
    """Add a file under a key, as bytes alone: when it was made, and by whom, is left out."""
    info = zipfile.ZipInfo(key)
    info.external_attr = 0o644 << 16
    info.file_size = file.stat().st_size
    with file.open("rb") as content, archive.open(info, "w") as member:
        shutil.copyfileobj(content, member, 2**20)


def add_video(archive: zipfile.ZipFile, root: StoreRoot, path: Path, row: VideoRow) -> None:
    """Add the files of one video, which must be there with their sizes."""
    place = f"videos/{node_name(row.video_id)}"
    if any(file.is_link for file in files_in(root, place)):
        raise CorruptFeatureError(f"{path / place} holds a symbolic link; run `r2t store verify`")
    for key, size in expected_files(root.header, row.num_frames):
        file = path / place / key
        if not file.is_file() or size not in (None, file.stat().st_size):
            raise CorruptFeatureError(
                f"{file} is missing or has another size than {size} bytes; run `r2t store verify`"
            )
        add_file(archive, file, f"{place}/{key}")
