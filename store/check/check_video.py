"""Checking one video of a store against its own attributes, its digest and the store's spec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import zarr
from numpy.typing import NDArray

from r2t.store.check.faults import Fault
from r2t.store.check.inventory import files_in
from r2t.store.errors import CorruptFeatureError, R2TError, ServerError
from r2t.store.format import (
    FeatureDigest,
    StoreHeader,
    TokenLayout,
    VideoRow,
    attributes_of,
    damage,
    errors_from_attributes,
    node_name,
    require_group,
    shard_key,
)
from r2t.store.schema import FeatureSpec
from r2t.store.sources import StoreRoot
from r2t.store.video_reader import locate_video_node, video_row


@dataclass(frozen=True)
class CheckedVideo:
    """A node of `videos`: its index row if it is committed and legal, and what is wrong with it."""

    node: str
    row: VideoRow | None
    num_bytes: int
    faults: list[Fault]


def check_stored_video(root: StoreRoot, node: str, *, quick: bool = False) -> CheckedVideo:
    """Check one node; `quick` trusts the tokens' bytes if there are as many as there should be.

    Holds one shard, or one layer of it if there are several.
    """
    place = f"videos/{node}"
    files = list(files_in(root, place))
    links = [Fault("link", _join(place, file.key), _LINK) for file in files if file.is_link]
    if links:  # nothing behind a link is read
        return CheckedVideo(node, None, 0, links)
    if not any(file.key == "zarr.json" for file in files):
        kind = "foreign" if [file.key for file in files] == [""] else "uncommitted"
        return CheckedVideo(node, None, 0, [Fault(kind, place, "is no node of a video")])
    row: VideoRow | None = None
    try:
        group = require_group(root.group, place)
        if "digest" not in attributes_of(group):
            detail = "has no digest: it was never committed, or copied in part"
            return CheckedVideo(node, None, 0, [Fault("uncommitted", place, detail)])
        row = _legal_row(root.header, group, node)
        layout = TokenLayout.of(root.spec, row.num_frames)
        if not quick:
            _require_digest(root, group, row)
        else:
            _require_whole(root, group)
    except ServerError:
        raise
    except R2TError as error:
        video_id = None if row is None else row.video_id
        return CheckedVideo(node, None, 0, [Fault("video", place, str(error), video_id)])
    expected = dict(expected_files(root.spec, layout))
    faults = [
        Fault("foreign", f"{place}/{file.key}", "the format has no place for this file")
        for file in files
        if file.key not in expected
    ]
    faults += [
        Fault(
            "video",
            f"{place}/{file.key}",
            f"has {file.num_bytes} bytes, expected {size}",
            row.video_id,
        )
        for file in files
        if (size := expected.get(file.key)) is not None and file.num_bytes not in (None, size)
    ]
    if any(fault.kind == "video" for fault in faults):
        return CheckedVideo(node, None, 0, faults)
    return CheckedVideo(node, row, row.num_frames * root.spec.frame_bytes(), faults)


_LINK = "is a symbolic link, which may lead out of the store"


def _legal_row(header: StoreHeader, group: zarr.Group, node: str) -> VideoRow:
    spec = header.spec
    attributes = attributes_of(group)
    video_id = attributes.get("video_id")
    if not isinstance(video_id, str) or node_name(video_id) != node:
        raise CorruptFeatureError(f"holds the video {video_id!r}, whose place is another")
    row = video_row(group, header)
    with damage(video_id):
        errors_from_attributes(attributes, spec.num_layers)
    row.require_legal(spec)
    return row


def _require_whole(root: StoreRoot, group: zarr.Group) -> None:
    folder = None if root.path is None else root.path / group.path
    locate_video_node(group, root.header, folder, layers=slice(None), frames=slice(None))


def _require_digest(root: StoreRoot, group: zarr.Group, row: VideoRow) -> None:
    """Compute the digest anew from all that is stored, shard by shard within each layer."""
    folder = None if root.path is None else root.path / group.path
    layout = TokenLayout.of(root.spec, row.num_frames)
    digest = FeatureDigest(layout.dtype, layout.shape)
    affines: dict[str, list[NDArray[np.float32]]] = {"scale": [], "offset": []}
    for layers, frames in _pieces(layout):
        video = locate_video_node(group, root.header, folder, layers=layers, frames=frames).read()
        digest.update(video.tokens)
        if frames.start == 0 and video.scale is not None and video.offset is not None:
            affines["scale"].append(video.scale)
            affines["offset"].append(video.offset)
    for values in affines.values():
        if values:
            whole = np.concatenate(values)
            if not np.isfinite(whole).all():
                raise CorruptFeatureError(f"{group.path}: scale or offset hold NaN or infinity")
            digest.update(whole)
    if digest.finish() != row.digest:
        raise CorruptFeatureError(
            f"the stored bytes have the digest {digest.finish()}, the video was committed with "
            f"{row.digest}"
        )


def _pieces(layout: TokenLayout) -> Iterator[tuple[slice, slice]]:
    """Yield layers and frames that follow one another in C order."""
    if layout.num_shards == 1:
        yield slice(None), slice(0, layout.frames)
        return
    for layer in range(layout.layers):
        for frames in layout.shards():
            yield slice(layer, layer + 1), frames


def expected_files(spec: FeatureSpec, layout: TokenLayout) -> Iterator[tuple[str, int | None]]:
    """Yield the files of a video, named from its node, and their sizes where those are fixed."""
    yield from (("zarr.json", None), ("tokens/zarr.json", None))
    for shard in range(layout.num_shards):
        yield shard_key("tokens", shard), layout.shard_bytes
    for name in ("scale", "offset") if spec.dtype == "int8" else ():
        yield f"{name}/zarr.json", None
        yield f"{name}/c/0/0", spec.num_layers * spec.vision_width * 4


def _join(place: str, key: str) -> str:
    return f"{place}/{key}" if key else place
