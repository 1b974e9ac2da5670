"""A video's attributes restored from an index part that recorded them, and what that loses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from r2t.store.format import VideoRow, is_sealed_video, seal_attributes

_KNOWN = (
    *("video_id", "num_frames", "duration_seconds", "frame_rate_fps", "decoder", "source"),
    *("quantization_error", "digest", "embedding_digest", "embedding_from", "attributes_digest"),
)


def restore_attributes(
    attributes: Mapping[str, Any], row: VideoRow
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a video's attributes with what `row` recorded of it, sealed, and what was lost.

    No index part records the licence and the errors of eight bits. They are kept if the digest of
    the attributes holds once the others are restored; otherwise nothing proves them, and they are
    given up. For stores of format version 2.
    """
    kept = {name: value for name, value in attributes.items() if name in _KNOWN}
    source = kept.pop("source", None)
    if isinstance(source, dict):
        licence = cast("dict[str, Any]", source).get("licence")
        kept["source"] = {"licence": licence}
    whole: dict[str, Any] = {**row.put_into(kept), "digest": row.digest}
    if is_sealed_video(whole):
        return whole, ()
    lost: list[str] = []
    if whole.pop("quantization_error", None) is not None:
        lost.append("quantization_error")
    if "source" in whole and whole["source"]["licence"] is not None:
        whole["source"]["licence"] = None
        lost.append("licence")
    return seal_attributes(whole, 2), tuple(lost)
