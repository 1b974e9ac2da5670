"""Reading one committed video: its attributes are checked before they decide anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from r2t.store.errors import CorruptFeatureError, StoreError
from r2t.store.nodes import damage
from r2t.store.schema import FeatureSpec, VideoFeatures, VideoSource
from r2t.store.shards import TokenLayout, read_tokens, require_backed


def read_video_node(
    group: zarr.Group, spec: FeatureSpec, folder: Path | None, *, layers: slice, frames: slice
) -> VideoFeatures:
    """Read a committed video's tokens, or only some layers and frames of them.

    `folder` is the node's own folder on this machine, or None where zarr reaches it.
    """
    attributes: dict[str, Any] = group.attrs.asdict()
    video_id = str(attributes["video_id"])
    with damage(video_id):
        layout = TokenLayout(
            spec.num_layers,
            _num_frames(attributes),
            spec.num_tokens,
            spec.vision_width,
            np.dtype("<f2") if spec.dtype == "float16" else np.dtype(np.int8),
        )
        array = cast("zarr.Array[Any]", group["tokens"])
        layout.require(array, video_id)
        wanted_layers, wanted_frames = _select(layout, layers, frames, video_id)
        tokens_folder = None if folder is None else folder / "tokens"
        require_backed(array, tokens_folder, layout, video_id)
        shape = (len(wanted_layers), len(wanted_frames), layout.tokens, layout.width)
        out = np.empty(shape, layout.dtype)
        read_tokens(array, tokens_folder, layout, wanted_layers, wanted_frames, out)
        affines = [None, None] if spec.dtype == "float16" else _affines(group, layout, layers)
        return VideoFeatures(
            video_id,
            out,
            float(attributes["duration_seconds"]),
            float(attributes["frame_rate_fps"]),
            *affines,
            source=_source(attributes),
        )


def index_row(group: zarr.Group) -> dict[str, Any]:
    """Return the index row of a committed video, read from the video itself."""
    attributes: dict[str, Any] = group.attrs.asdict()
    with damage(str(attributes["video_id"])):
        source = _source(attributes)
        return {
            "video_id": str(attributes["video_id"]),
            "num_frames": _num_frames(attributes),
            "duration_seconds": float(attributes["duration_seconds"]),
            "frame_rate_fps": float(attributes["frame_rate_fps"]),
            "decoder": str(attributes["decoder"]),
            "digest": str(attributes["digest"]),
            "source_name": source.name if source else "",
            "source_bytes": source.num_bytes if source else 0,
            "source_sha256": source.sha256 if source else "",
        }


def _num_frames(attributes: Mapping[str, Any]) -> int:
    num_frames = attributes["num_frames"]
    if not isinstance(num_frames, int) or num_frames < 1:
        raise ValueError(f"{num_frames = }")
    return num_frames


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
    affines: list[NDArray[np.float32]] = []
    for name in ("scale", "offset"):
        array = cast("zarr.Array[Any]", group[name])
        found, legal = (array.shape, array.dtype), ((layout.layers, layout.width), np.float32)
        if found != legal:
            raise CorruptFeatureError(f"{group.path}/{name} is {found}, expected {legal}")
        affines.append(np.asarray(array[layers]))
    return affines


def _source(attributes: Mapping[str, Any]) -> VideoSource | None:
    fields = attributes.get("source")
    if fields is None:
        return None
    return VideoSource(
        name=str(fields["name"]),
        num_bytes=int(fields["bytes"]),
        sha256=str(fields["sha256"]),
        decoder=str(attributes["decoder"]),
        licence=fields["licence"],
    )
