"""What a store records of a video: in the attributes of its node, and as a row of the index."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from r2t.store.errors import ConfigError, CorruptFeatureError
from r2t.store.features import VideoSource
from r2t.store.format.canonical_json import is_sealed, sealed
from r2t.store.legal import MAX_COUNT, is_count, is_finite, is_positive
from r2t.store.quantize import ERROR_FIELDS
from r2t.store.schema import PER_VIDEO, FeatureSpec

_DTYPES = {"str": "string", "int": "int64", "float": "float64"}
_ATTRIBUTES_DIGEST = "attributes_digest"
_OWN_ATTRIBUTES = ("video_id", "num_frames", "duration_seconds", "frame_rate_fps", "decoder")


@dataclass(frozen=True)
class VideoRow:
    """One video as the index names it: texts are empty and numbers 0 where nothing is recorded.

    The fields are the columns of an index part. A row may hold anything that its columns can, as
    it does in a damaged store; `require_legal` tells.
    """

    video_id: str
    num_frames: int
    duration_seconds: float
    frame_rate_fps: float
    decoder: str = ""
    source_name: str = ""
    source_bytes: int = 0
    source_sha256: str = ""
    digest: str = ""

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> VideoRow:
        """Return the row of a committed video; raise `ValueError` unless the attributes are legal.

        An id and a digest of another type are taken for texts: they then equal none.
        """
        num_frames = _recorded(attributes, "num_frames")
        if not is_count(num_frames) or num_frames < 1:
            raise ValueError(f"{num_frames = }")
        row = cls(
            str(_recorded(attributes, "video_id")),
            num_frames,
            _positive(attributes, "duration_seconds"),
            _positive(attributes, "frame_rate_fps"),
            str(_recorded(attributes, "decoder")),
            digest=str(_recorded(attributes, "digest")),
        )
        return row.with_source(source_from_attributes(attributes))

    def with_source(self, source: VideoSource | None) -> VideoRow:
        """Return this row with what is known of the file that the features came from."""
        if source is None:
            return self
        return dataclasses.replace(
            self,
            decoder=source.decoder,
            source_name=source.name,
            source_bytes=source.num_bytes,
            source_sha256=source.sha256,
        )

    def put_into(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return attributes that say what this row does, but for the digest; others are kept."""
        own = {name: getattr(self, name) for name in _OWN_ATTRIBUTES}
        source = {
            "name": self.source_name,
            "bytes": self.source_bytes,
            "sha256": self.source_sha256,
        }
        found = cast("dict[str, Any] | None", attributes.get("source"))
        whole = {**own, **attributes, **own}
        if found is not None or any(source.values()):
            whole["source"] = {**source, "licence": None, **(found or {}), **source}
        return whole

    def require_legal(self, spec: FeatureSpec) -> None:
        """Raise `ConfigError` on an id, length, duration or frame rate that a video cannot have."""
        try:
            self.video_id.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"video id {self.video_id!r} is no valid Unicode; rename the file it comes from"
            ) from error
        if not self.video_id:
            raise ConfigError("a video id is empty")
        if not is_count(self.num_frames) or self.num_frames < 1:
            raise ConfigError(
                f"{self.video_id}: num_frames = {self.num_frames}, must be from 1 to {MAX_COUNT}"
            )
        for name in ("duration_seconds", "frame_rate_fps"):
            if not is_positive(getattr(self, name)):
                raise ConfigError(f"{self.video_id}: {name} = {getattr(self, name)}, must be > 0")
        if spec.frame_rate not in (PER_VIDEO, self.frame_rate_fps):
            raise ConfigError(
                f"{self.video_id}: frame_rate_fps = {self.frame_rate_fps}, but all videos of this "
                f"store are sampled at {spec.frame_rate} fps"
            )

    def differing(self, other: VideoRow) -> list[str]:
        """Return the names of the columns in which another row differs."""
        return [name for name in INDEX_COLUMNS if getattr(self, name) != getattr(other, name)]


INDEX_COLUMNS: Mapping[str, str] = {
    field.name: _DTYPES[cast("str", field.type)] for field in dataclasses.fields(VideoRow)
}
"""The columns of an index part, with their dtypes."""


def video_columns(rows: Sequence[VideoRow]) -> dict[str, NDArray[Any]]:
    """Return the columns of an index part, a row for each video."""
    text = np.dtypes.StringDType()
    return {
        name: np.array(
            [getattr(row, name) for row in rows], dtype=text if kind == "string" else kind
        )
        for name, kind in INDEX_COLUMNS.items()
    }


def rows_of_columns(columns: Mapping[str, NDArray[Any]]) -> list[VideoRow]:
    """Return the rows that the columns of an index part hold."""
    values = [columns[name].tolist() for name in INDEX_COLUMNS]
    return [VideoRow(*row) for row in zip(*values, strict=True)]


def require_legal_column(name: str, values: NDArray[Any], label: str) -> None:
    """Raise `CorruptFeatureError` on a number in a column of an index part that no video has."""
    if values.dtype.kind not in "if":
        return
    lowest = 0 if name == "source_bytes" else 1
    legal = values >= lowest if values.dtype.kind == "i" else (values > 0) & np.isfinite(values)
    if name == "num_frames":
        legal &= values <= MAX_COUNT
    if not legal.all():
        raise CorruptFeatureError(
            f"{label}: {name} holds {values[~legal][0]}, which no video has; "
            "`r2t store repair` makes the index anew"
        )


def seal_attributes(attributes: Mapping[str, Any], format_version: int) -> dict[str, Any]:
    """Return a video's attributes with the digest of all others, which version 1 does not have.

    Raises `ConfigError` on a value that JSON has no canonical form of.
    """
    if format_version == 1:
        return dict(attributes)
    try:
        return sealed(attributes, _ATTRIBUTES_DIGEST)
    except ValueError as error:
        raise ConfigError(f"what is recorded of a video is no plain JSON: {error}") from error


def is_sealed_video(attributes: Mapping[str, Any]) -> bool:
    """Whether a video's attributes are what their digest says; never so in format version 1."""
    return is_sealed(attributes, _ATTRIBUTES_DIGEST)


def require_sealed(attributes: Mapping[str, Any], format_version: int, label: str) -> None:
    """Raise `CorruptFeatureError` if a video's attributes are not what their digest says."""
    if format_version > 1 and not is_sealed(attributes, _ATTRIBUTES_DIGEST):
        raise CorruptFeatureError(
            f"{label}: the video's attributes are not what their {_ATTRIBUTES_DIGEST} says; "
            "`r2t store repair` restores what the index recorded of them"
        )


def source_from_attributes(attributes: Mapping[str, Any]) -> VideoSource | None:
    """Return where a video came from, None if nothing is recorded.

    Raises `ValueError` unless what is recorded is legal.
    """
    source = attributes.get("source")
    if source is None:
        return None
    if not isinstance(source, dict):
        raise ValueError(f"source = {source!r}")
    fields = cast("dict[str, Any]", source)
    num_bytes, licence = _recorded(fields, "bytes"), _recorded(fields, "licence")
    if type(num_bytes) is not int or not 0 <= num_bytes < 2**63:
        raise ValueError(f"source bytes = {num_bytes!r}")
    if not isinstance(licence, str | None):
        raise ValueError(f"licence = {licence!r}")
    return VideoSource(
        name=str(_recorded(fields, "name")),
        num_bytes=num_bytes,
        sha256=str(_recorded(fields, "sha256")),
        decoder=str(_recorded(attributes, "decoder")),
        licence=licence,
    )


def errors_from_attributes(
    attributes: Mapping[str, Any], num_layers: int
) -> dict[str, list[float]] | None:
    """Return what eight bits cost a video, by field and layer, None if it does not say.

    Raises `ValueError` unless there is a number for each layer.
    """
    recorded = attributes.get("quantization_error")
    if recorded is None:
        return None
    if not isinstance(recorded, dict):
        raise ValueError(f"quantization_error = {recorded!r}")
    found: dict[str, list[float]] = {}
    for name in ERROR_FIELDS:
        values = _recorded(cast("dict[str, Any]", recorded), name)
        if not _is_number_a_layer(values, num_layers):
            raise ValueError(f"quantization_error: {name} = {values}: not a number a layer")
        found[name] = values
    return found


def _is_number_a_layer(values: Any, num_layers: int) -> bool:
    if not isinstance(values, list):
        return False
    numbers = cast("list[Any]", values)
    return len(numbers) == num_layers and all(is_finite(each) and each >= 0 for each in numbers)


def _recorded(fields: Mapping[str, Any], name: str) -> Any:
    if name not in fields:
        raise ValueError(f"{name} is missing")
    return fields[name]


def _positive(attributes: Mapping[str, Any], name: str) -> float:
    value = _recorded(attributes, name)
    if not is_positive(value):
        raise ValueError(f"{name} = {value!r}")
    return float(value)
