"""Bringing a video from one store into another: linked or copied, proved, then committed.

The other store is not trusted. What is read from it is decided by this format and the video's id
alone, never by the names that are found there; links are refused; sizes are checked before bytes
are read; and what arrived is checked like any committed video before it appears.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from r2t.store.change.upgraded_video import upgrade_metadata
from r2t.store.check import check_stored_video, expected_files, files_in
from r2t.store.errors import CorruptFeatureError
from r2t.store.format import (
    VideoRow,
    damage,
    node_name,
    open_group,
)
from r2t.store.sources import StoreRoot
from r2t.store.writer import StoreWriter

_MAX_METADATA_BYTES = 2**20
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES)


def bring_video(
    writer: StoreWriter, source: StoreRoot, row: VideoRow, *, link: bool, quick: bool
) -> bool:
    """Commit one video of another store of equal spec; return whether its bytes are shared.

    `row` is its index row there. With `link`, chunk files become hard links where the disk has
    them; metadata is always copied. `quick` trusts the tokens' bytes. Raises `CorruptFeatureError`
    if the video is not what its digest, its row or the format says.
    """
    node = node_name(row.video_id)
    place = f"videos/{node}"
    if source.path is not None and any(file.is_link for file in files_in(source, place)):
        raise CorruptFeatureError(f"{source.location}: {place} holds a symbolic link")
    with writer.stage() as stage:
        shared = True
        for key, size in expected_files(source.header, row.num_frames):
            target = stage / place / key
            target.parent.mkdir(parents=True, exist_ok=True)
            shared &= _bring_file(source, f"{place}/{key}", size, target, link=link)
        staged = StoreRoot(source.location, open_group(str(stage), "a"), stage, source.header)
        checked = check_stored_video(staged, node, quick=quick)
        if checked.row is None:
            raise CorruptFeatureError(f"{source.location}: {checked.faults[0].detail}")
        differing = row.differing(checked.row)
        if differing:
            raise CorruptFeatureError(
                f"{source.location}: the index says of {row.video_id!r} another "
                f"{', '.join(differing)} than the video; run `r2t store repair` there"
            )
        if source.header.format_version == 1:
            upgrade_metadata(stage / place, {})
        writer.adopt(stage / place, checked.row)
    return shared


def _bring_file(source: StoreRoot, key: str, size: int | None, target: Path, *, link: bool) -> bool:
    """Link or copy one file whose size must be `size`, or small if that is None."""
    if source.path is None:
        target.write_bytes(_read_key(source, key, size))
        return False
    path = source.path / key
    with damage(f"{source.location}: {key}"):
        status = os.lstat(path)
        _require_size(status.st_size, size)
        if not stat.S_ISREG(status.st_mode):
            raise CorruptFeatureError(f"{path} is no regular file")
    if link and size is not None:
        try:
            os.link(path, target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        else:
            return True
    shutil.copyfile(path, target, follow_symlinks=False)
    return size is None


def _read_key(source: StoreRoot, key: str, size: int | None) -> bytes:
    where = f"{source.group.path}/{key}".lstrip("/")
    with damage(f"{source.location}: {key}"):
        _require_size(sync(source.group.store.getsize(where)), size)
        found = sync(source.group.store.get(where, default_buffer_prototype()))
        if found is None:
            raise CorruptFeatureError("is missing")
        return found.to_bytes()


def _require_size(found: int, expected: int | None) -> None:
    if found != expected if expected is not None else found > _MAX_METADATA_BYTES:
        legal = f"at most {_MAX_METADATA_BYTES}" if expected is None else f"{expected}"
        raise CorruptFeatureError(f"it has {found} bytes, expected {legal}")
