"""Our own annotation files: JSON lines that hold all an Annotation holds, exactly.

    {"query_id": "q1", "video_id": "dog", "query": "a dog catches a frisbee", "moments": [[1.5, 4]],
     "saliency": {"scores": [[0, 4]], "clip_seconds": 2, "lowest": 0, "highest": 4},
     "split": "val", "domain": "", "duration_seconds": 60.0}

`query_id`, `video_id` and `query` are required; a field left out means its default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from r2t.store.annotations import Annotation, SaliencyLabels, Split
from r2t.store.datasets.fields import MAX_CLIPS, MAX_SECONDS, Fields, parse_split
from r2t.store.datasets.formats import AnnotationFormat, FileStart
from r2t.store.datasets.reading import Located, ReadReport, json_rows
from r2t.store.errors import AnnotationError
from r2t.store.files import write_whole
from r2t.store.json_lines import to_json_lines
from r2t.store.wording import counted

_FIELDS = (
    "query_id",
    "video_id",
    "query",
    "moments",
    "saliency",
    "split",
    "domain",
    "duration_seconds",
)
_SCALE = ("lowest", "highest")
_MAX_SCORE = 1e6

_Built = TypeVar("_Built")


class OwnRows(AnnotationFormat):
    """What `write_annotations` wrote, or rows written by hand in its form.

    Video ids are taken as they are, so that what was written is read again.
    """

    name = "r2t's own JSON lines (query_id, video_id, query, …)"
    suffixes = (".jsonl", ".ndjson", ".json")

    def recognises(self, start: FileStart) -> bool:
        return start.row_keys >= {"query_id", "video_id"}

    def read(self, path: Path, text: str, default: Split, report: ReadReport) -> Located:
        def build(row: Fields) -> Annotation:
            return _annotation(row, default)

        return report.each(json_rows(path, text, report), build)


def _annotation(row: Fields, default: Split) -> Annotation:
    unknown = [key for key in row if key not in _FIELDS]
    if unknown:
        raise AnnotationError(
            f"{row.where}: unknown field {unknown[0]!r}; known fields are {_FIELDS}"
        )
    saliency = _saliency(row.child("saliency")) if "saliency" in row else None
    fields: dict[str, Any] = {
        "query_id": row.text("query_id"),
        "video_id": row.text("video_id"),
        "query": row.sentence("query", empty=True),
        "moments": row.matrix("moments", 2) if "moments" in row else np.zeros((0, 2)),
        "split": parse_split(row.value("split"), row.at("split")) if "split" in row else default,
        "domain": row.text("domain", empty=True) if "domain" in row else "",
        "duration_seconds": row.optional_number("duration_seconds"),
    }
    return _located(row.where, lambda: Annotation(saliency=saliency, **fields))


def _saliency(fields: Fields) -> SaliencyLabels:
    scores = fields.matrix("scores", low=-_MAX_SCORE, high=_MAX_SCORE).astype(np.float32)
    if len(scores) > MAX_CLIPS:
        raise AnnotationError(f"{fields.at('scores')} has {counted(len(scores), 'clip')}")
    clip_seconds = fields.number("clip_seconds", high=MAX_SECONDS)
    lowest, highest = (fields.number(k, low=-_MAX_SCORE, high=_MAX_SCORE) for k in _SCALE)
    return _located(
        fields.where, lambda: SaliencyLabels(scores, clip_seconds, lowest=lowest, highest=highest)
    )


def _located(where: str, build: Callable[[], _Built]) -> _Built:
    """Build a value that checks itself, and say in its complaint where it stood."""
    try:
        return build()
    except AnnotationError as error:
        raise AnnotationError(f"{where}: {error}") from error


def write_annotations(path: str | Path, annotations: Sequence[Annotation]) -> None:
    """Write annotations so that reading them gives equal ones; the file appears whole or not."""
    write_whole(Path(path), to_json_lines(annotation.to_dict() for annotation in annotations))
