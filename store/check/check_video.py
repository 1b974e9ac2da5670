"""Checking one video of a store against its own attributes, its digest and the store's spec."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from r2t.store.check.faults import UNFINISHED, Fault
from r2t.store.check.inventory import StoredFile, files_in
from r2t.store.check.restored import restore_attributes
from r2t.store.errors import CorruptFeatureError, R2TError, ServerError
from r2t.store.format import (
    EMBEDDING,
    EMBEDDING_DIGEST,
    FeatureDigest,
    StoreHeader,
    TokenLayout,
    VideoRow,
    attributes_of,
    damage,
    embedding_digest,
    embedding_files,
    errors_from_attributes,
    is_sealed_video,
    node_name,
    require_group,
    require_sealed,
    shard_key,
)
from r2t.store.publish import doing_of
from r2t.store.sources import StoreRoot
from r2t.store.video_reader import StoredVideo, locate_described_video


@dataclass(frozen=True)
class CheckedVideo:
    """A node of `videos`: its index row if it is committed and legal, and what is wrong with it."""

    node: str
    row: VideoRow | None
    num_bytes: int
    faults: list[Fault]


@dataclass(frozen=True)
class _Described:
    """A video's group and what it is, by its own attributes or those that were restored."""

    root: StoreRoot
    group: zarr.Group
    attributes: dict[str, Any]
    row: VideoRow

    def locate(self, layers: slice, frames: slice) -> StoredVideo:
        folder = None if self.root.path is None else self.root.path / self.group.path
        return locate_described_video(
            self.group, self.attributes, self.root.header, folder, layers=layers, frames=frames
        )


def check_stored_video(
    root: StoreRoot, node: str, *, quick: bool = False, recorded: VideoRow | None = None
) -> CheckedVideo:
    """Check one node; `quick` trusts the tokens' bytes if there are as many as there should be.

    `recorded` is what a sound index part says of the video. In a store of format version 2 it tells
    what the video is where the attributes are not what their digest says. Holds one shard, or one
    layer of it if there are several, and the embeddings.
    """
    place = f"videos/{node}"
    files = list(files_in(root, place)) if root.is_listed else []
    links = [Fault("link", _join(place, file.key), _LINK) for file in files if file.is_link]
    if links:  # nothing behind a link is read
        return CheckedVideo(node, None, 0, links)
    if root.is_listed and not any(file.key == "zarr.json" for file in files):
        kind = "foreign" if [file.key for file in files] == [""] else "uncommitted"
        return CheckedVideo(node, None, 0, [Fault(kind, place, "is no node of a video")])
    row: VideoRow | None = None
    try:
        group = require_group(root.group, place)
        if doing_of(attributes_of(group)) == "removed":
            return CheckedVideo(node, None, 0, [])
        if "digest" not in attributes_of(group):
            detail = "has no digest: it was never committed, or copied in part"
            return CheckedVideo(node, None, 0, [Fault("uncommitted", place, detail)])
        video, faults = _describe(root, group, node, recorded)
        row = video.row
        if not quick:
            _require_digest(video)
            _require_embedding_digest(video)
        else:
            video.locate(slice(None), slice(None))
    except ServerError:
        raise
    except R2TError as error:
        video_id = None if row is None else row.video_id
        return CheckedVideo(node, None, 0, [Fault("video", place, str(error), video_id)])
    faults += _file_faults(root, row, place, files)
    if any(fault.kind == "video" for fault in faults):
        return CheckedVideo(node, None, 0, faults)
    return CheckedVideo(node, row, row.num_frames * root.spec.frame_bytes(), faults)


_LINK = "is a symbolic link, which may lead out of the store"


def _describe(
    root: StoreRoot, group: zarr.Group, node: str, recorded: VideoRow | None
) -> tuple[_Described, list[Fault]]:
    """Tell what a video is; raise `CorruptFeatureError` where neither it nor the index can."""
    attributes, version = attributes_of(group), root.header.format_version
    faults: list[Fault] = []
    if recorded is not None and version > 1 and not is_sealed_video(attributes):
        detail = _differences(attributes, recorded)
        faults.append(Fault("attributes", group.path, detail, recorded.video_id))
        attributes, _ = restore_attributes(attributes, recorded)
    video_id = attributes.get("video_id")
    if not isinstance(video_id, str) or node_name(video_id) != node:
        raise CorruptFeatureError(f"holds the video {video_id!r}, whose place is another")
    with damage(video_id):
        require_sealed(attributes, version, video_id)
        row = VideoRow.from_attributes(attributes)
        errors_from_attributes(attributes, root.spec.num_layers)
    row.require_legal(root.spec)
    return _Described(root, group, attributes, row), faults


def _differences(attributes: Mapping[str, Any], recorded: VideoRow) -> str:
    """Say in what a video's attributes differ from what an index part recorded."""
    source = attributes.get("source")
    found = {**attributes}
    if isinstance(source, dict):
        fields = cast("dict[str, Any]", source)
        found |= {f"source_{name}": value for name, value in fields.items()}
    shown = [
        f"{name} {found.get(name)!r}, an index part recorded {value!r}"
        for name, value in dataclasses.asdict(recorded).items()
        if found.get(name, type(value)()) != value
    ]
    return "; ".join(shown) or "they are not what their attributes_digest says"


def _require_digest(video: _Described) -> None:
    """Compute the digest anew from all that is stored, shard by shard within each layer."""
    row = video.row
    layout = TokenLayout.of(video.root.spec, row.num_frames)
    digest = FeatureDigest(layout.dtype, layout.shape)
    affines: dict[str, list[NDArray[np.float32]]] = {"scale": [], "offset": []}
    for layers, frames in _pieces(layout):
        found = video.locate(layers, frames)
        tokens = np.empty(found.shape, found.dtype)
        found.read_into(tokens)
        digest.update(tokens)
        if frames.start == 0 and found.scale is not None and found.offset is not None:
            affines["scale"].append(found.scale)
            affines["offset"].append(found.offset)
    for values in affines.values():
        if values:
            whole = np.concatenate(values)
            if not np.isfinite(whole).all():
                raise CorruptFeatureError(
                    f"{video.group.path}: scale or offset hold NaN or infinity"
                )
            digest.update(whole)
    _require_same(digest.finish(), row.digest, "bytes")


def _require_embedding_digest(video: _Described) -> None:
    embedding, _ = video.locate(slice(None), slice(None)).read_embedding()
    if embedding is not None:
        recorded = video.attributes.get(EMBEDDING_DIGEST)
        _require_same(embedding_digest(embedding), recorded, "embeddings")


def _require_same(found: str, recorded: Any, what: str) -> None:
    if found != recorded:
        raise CorruptFeatureError(
            f"the stored {what} have the digest {found}, the video was committed with {recorded}"
        )


def _file_faults(
    root: StoreRoot, row: VideoRow, place: str, files: Sequence[StoredFile]
) -> list[Fault]:
    """Account for every file of a video that was listed."""
    expected = dict(expected_files(root.header, row.num_frames))
    faults = [
        _not_expected(root.header, f"{place}/{file.key}", file)
        for file in files
        if file.key not in expected
    ]
    return faults + [
        Fault(
            "video",
            f"{place}/{file.key}",
            f"has {file.num_bytes} bytes, expected {size}",
            row.video_id,
        )
        for file in files
        if (size := expected.get(file.key)) is not None and file.num_bytes not in (None, size)
    ]


def _not_expected(header: StoreHeader, place: str, file: StoredFile) -> Fault:
    if header.format_version == 1 and file.key.startswith(f"{EMBEDDING}/"):
        return Fault("left-over", place, UNFINISHED)
    return Fault("foreign", place, "the format has no place for this file")


def _pieces(layout: TokenLayout) -> Iterator[tuple[slice, slice]]:
    """Yield layers and frames that follow one another in C order."""
    if layout.num_shards == 1:
        yield slice(None), slice(0, layout.frames)
        return
    for layer in range(layout.layers):
        for frames in layout.shards():
            yield slice(layer, layer + 1), frames


def expected_files(header: StoreHeader, num_frames: int) -> Iterator[tuple[str, int | None]]:
    """Yield the files of a video, named from its node, and their sizes where those are fixed."""
    spec = header.spec
    layout = TokenLayout.of(spec, num_frames)
    yield from (("zarr.json", None), ("tokens/zarr.json", None))
    for shard in range(layout.num_shards):
        yield shard_key("tokens", shard), layout.shard_bytes
    for name in ("scale", "offset") if spec.dtype == "int8" else ():
        yield f"{name}/zarr.json", None
        yield f"{name}/c/0/0", spec.num_layers * spec.vision_width * 4
    if header.embedding is not None:
        yield from embedding_files(header.embedding, num_frames)


def _join(place: str, key: str) -> str:
    return f"{place}/{key}" if key else place
