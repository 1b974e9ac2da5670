"""Reading one committed video: its attributes are checked before they decide anything."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from r2t.store.errors import CorruptFeatureError, StoreError
from r2t.store.features import EmbeddingOrigin, VideoFeatures, VideoSource
from r2t.store.format import (
    ByteRange,
    StoreHeader,
    TokenLayout,
    VideoRow,
    attributes_of,
    damage,
    has_only_finite,
    locate_tokens,
    node_name,
    read_columns,
    read_embedding,
    read_metadata,
    read_ranges,
    require_array,
    require_group,
    require_layout,
    require_sealed,
    source_from_attributes,
)
from r2t.store.sources import RemoteShards, SourceStore, StoreRoot


@dataclass(frozen=True, eq=False)
class StoredVideo:
    """Tokens of one committed video, or some layers and frames of them, found but not yet read.

    `ranges` say where they lie on this machine, in a folder or a zip, in C order of `shape`
    [layers, frames, tokens, width]; None in a store that is not on this machine. Stays true while
    the store exists, so a reader that comes back every epoch may keep it.
    """

    video_id: str
    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    duration_seconds: float
    frame_rate_fps: float
    scale: NDArray[np.float32] | None
    offset: NDArray[np.float32] | None
    source: VideoSource | None
    ranges: list[ByteRange] | None
    _fetch: Callable[[memoryview], None]
    _fetch_embedding: Callable[[], tuple[NDArray[np.float16] | None, EmbeddingOrigin]]

    @property
    def num_bytes(self) -> int:
        """Bytes of the tokens."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read_into(self, out: NDArray[Any], *, trusted: bool = False) -> None:
        """Read the tokens into an array of `shape` and `dtype`, on this machine without a copy.

        Each layer of it must be C-contiguous; the layers may lie apart, as in a padded batch.
        Raises `CorruptFeatureError` on NaN or infinity, unless they are `trusted`: looking takes
        as long as reading from the memory of the disk.
        """
        legal = (self.shape, self.dtype)
        if (out.shape, out.dtype) != legal or not all(layer.flags.c_contiguous for layer in out):
            raise StoreError(
                f"{self.video_id}: {out.dtype}{list(out.shape)} given to read into, expected "
                f"contiguous {self.dtype}{list(self.shape)}"
            )
        with damage(self.video_id):
            if out.flags.c_contiguous:
                self._fetch(out.data.cast("B"))
            elif self.ranges is None:
                whole = np.empty(self.shape, self.dtype)
                self._fetch(whole.data.cast("B"))
                out[...] = whole
            else:
                read_ranges(self.ranges, *(layer.data.cast("B") for layer in out))
        if not (trusted or all(has_only_finite(layer) for layer in out)):
            raise CorruptFeatureError(
                f"{self.video_id}: its stored tokens hold NaN or infinity; `r2t store verify` "
                "finds every such video, `r2t store repair` lists them to extract again"
            )

    def read_embedding(self) -> tuple[NDArray[np.float16] | None, EmbeddingOrigin]:
        """Read the frames' embeddings, None in a store without, and what they were made from."""
        with damage(self.video_id):
            return self._fetch_embedding()

    def read(self) -> VideoFeatures:
        """Read the tokens, and the embeddings where there are any."""
        out = np.empty(self.shape, self.dtype)
        self.read_into(out)
        embedding, embedding_from = self.read_embedding()
        return VideoFeatures(
            self.video_id,
            out,
            self.duration_seconds,
            self.frame_rate_fps,
            self.scale,
            self.offset,
            source=self.source,
            embedding=embedding,
            embedding_from=embedding_from,
        )


def locate_video_node(
    group: zarr.Group, header: StoreHeader, folder: Path | None, *, layers: slice, frames: slice
) -> StoredVideo:
    """Find a committed video's tokens, or only some layers and frames of them.

    `header` is the store's; `folder` is the node's own on this machine, or None where a source
    reaches it.
    """
    attributes, _ = video_record(group, header)
    return locate_described_video(group, attributes, header, folder, layers=layers, frames=frames)


def locate_described_video(
    group: zarr.Group,
    attributes: dict[str, Any],
    header: StoreHeader,
    folder: Path | None,
    *,
    layers: slice,
    frames: slice,
) -> StoredVideo:
    """Find tokens like `locate_video_node`, of a video that is what the given attributes say."""
    video_id = str(attributes.get("video_id"))
    spec = header.spec
    with damage(video_id):
        row = VideoRow.from_attributes(attributes)
        layout = TokenLayout.of(spec, row.num_frames)
        require_layout(require_array(group, "tokens"), layout, video_id)
        wanted_layers, wanted_frames = _select(layout, layers, frames, video_id)
        if folder is None:
            shards = _remote_shards(group, layout, row.digest)
            found = shards.find(wanted_layers, wanted_frames)
            ranges = shards.ranges(found)
            fetch = partial(shards.read_into, found)
        else:
            ranges = locate_tokens(folder / "tokens", layout, wanted_layers, wanted_frames)
            fetch = partial(read_ranges, ranges)
        scale = offset = None
        if spec.dtype == "int8":
            scale, offset = _affines(group, layout, layers)
        return StoredVideo(
            video_id,
            (len(wanted_layers), len(wanted_frames), layout.tokens, layout.width),
            layout.dtype,
            row.duration_seconds,
            row.frame_rate_fps,
            scale,
            offset,
            source_from_attributes(attributes),
            ranges,
            fetch,
            partial(_read_embedding, group, attributes, header, row.num_frames, wanted_frames),
        )


def read_video_embedding(
    group: zarr.Group, header: StoreHeader, frames: slice
) -> NDArray[np.float16] | None:
    """Read the embeddings of some frames of a committed video, None in a store without."""
    attributes, row = video_record(group, header)
    with damage(row.video_id):
        layout = TokenLayout.of(header.spec, row.num_frames)
        wanted = _select(layout, slice(None), frames, row.video_id)[1]
        return _read_embedding(group, attributes, header, row.num_frames, wanted)[0]


def _read_embedding(
    group: zarr.Group,
    attributes: dict[str, Any],
    header: StoreHeader,
    num_frames: int,
    frames: range,
) -> tuple[NDArray[np.float16] | None, EmbeddingOrigin]:
    if header.embedding is None:
        return None, ""
    return read_embedding(group, attributes, header.embedding, num_frames, frames)


def video_record(group: zarr.Group, header: StoreHeader) -> tuple[dict[str, Any], VideoRow]:
    """Return all that is recorded of a committed video, and the index row that it makes."""
    attributes = attributes_of(group)
    video_id = str(attributes.get("video_id"))
    with damage(video_id):
        require_sealed(attributes, header.format_version, video_id)
        return attributes, VideoRow.from_attributes(attributes)


def video_row(group: zarr.Group, header: StoreHeader) -> VideoRow:
    """Return the index row of a committed video, read from the video itself."""
    return video_record(group, header)[1]


def video_attributes(root: StoreRoot, video_id: str) -> dict[str, Any]:
    """Return all that is recorded of a committed video."""
    return attributes_of(require_group(root.group, f"videos/{node_name(video_id)}"))


def _remote_shards(group: zarr.Group, layout: TokenLayout, digest: str) -> RemoteShards:
    store = group.store
    assert isinstance(store, SourceStore)
    return RemoteShards(store.source, f"{group.path}/tokens", layout, digest, store.cache)


def _select(
    layout: TokenLayout, layers: slice, frames: slice, video_id: str
) -> tuple[range, range]:
    wanted = range(layout.layers)[layers], range(layout.frames)[frames]
    if any(len(chosen) == 0 or chosen.step != 1 for chosen in wanted):
        raise StoreError(
            f"{video_id}: {layers} and {frames} select nothing or skip, "
            f"of {layout.layers} layers and {layout.frames} frames"
        )
    return wanted


def _affines(group: zarr.Group, layout: TokenLayout, layers: slice) -> list[NDArray[np.float32]]:
    columns = read_metadata(group.store, [f"{group.path}/{name}" for name in ("scale", "offset")])
    for column in columns:
        found, legal = (column.shape, column.dtype), ((layout.layers, layout.width), "float32")
        if found != legal:
            raise CorruptFeatureError(f"{column.path} is {found}, expected {legal}")
    affines = [values[layers] for values in read_columns(group.store, columns)]
    if not all(np.isfinite(values).all() for values in affines):
        raise CorruptFeatureError(f"{group.path}: scale or offset hold NaN or infinity")
    return affines
