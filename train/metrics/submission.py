"""Predictions as the benchmarks exchange them: JSON lines, one row a query.

    {"qid": 12, "query": "…", "vid": "…", "pred_relevant_windows": [[start, end, score], …],
     "pred_saliency_scores": [score of clip 0, …]}

Highlight-only datasets have rows {"vid": …, "pred_saliency_scores": […]}.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from r2t.store.annotations import query_name
from r2t.store.datasets import Fields, ReadReport, json_rows, read_text
from r2t.store.errors import AnnotationError
from r2t.store.files import write_whole
from r2t.store.json_lines import to_json_lines

_MAX_SCORE = 1e30


@dataclass(frozen=True, eq=False)
class SubmissionRow:
    """What a model says about one query of one video.

    `moments` are [start, end, score] in seconds, best first; `saliency` is a score per clip of the
    dataset. None means not predicted. Starts may exceed ends: that is for `check_submission`.
    """

    query_id: str
    video_id: str
    query: str = ""
    moments: Float64[np.ndarray, "moments 3"] | None = None
    saliency: Float64[np.ndarray, " clips"] | None = None

    def __post_init__(self) -> None:
        if not (self.query_id and self.video_id):
            raise AnnotationError(f"{self!r}: both ids must be non-empty strings")
        for values in (self.moments, self.saliency):
            if values is not None and not np.isfinite(values).all():
                raise AnnotationError(f"{self!r}: predictions must be finite numbers")

    @property
    def name(self) -> str:
        """What a person knows the query by."""
        return query_name(self.query_id, self.video_id, self.query)

    def __repr__(self) -> str:
        moments = "-" if self.moments is None else len(self.moments)
        clips = "-" if self.saliency is None else len(self.saliency)
        return f"SubmissionRow({self.query_id!r}, {self.video_id!r}, {moments=}, {clips=})"


def read_submission(path: str | Path) -> list[SubmissionRow]:
    """Read predictions, in file order; extra fields are ignored."""
    path = Path(path)
    rows = [_parse(row) for row in json_rows(path, read_text(path), ReadReport())]
    if not rows:
        raise AnnotationError(f"{path} holds no predictions")
    return rows


def _parse(row: Fields) -> SubmissionRow:
    moments = saliency = None
    if "pred_relevant_windows" in row:
        moments = row.matrix("pred_relevant_windows", 3, low=-_MAX_SCORE, high=_MAX_SCORE)
    if "pred_saliency_scores" in row:
        scores = row.numbers("pred_saliency_scores", low=-_MAX_SCORE, high=_MAX_SCORE)
        saliency = np.array(scores, dtype=np.float64)
    if moments is None and saliency is None:
        raise AnnotationError(
            f"{row.where}: neither pred_relevant_windows nor pred_saliency_scores; "
            "these are not predictions"
        )
    video_id = row.identifier("vid") if "vid" in row else row.identifier("qid")
    return SubmissionRow(
        query_id=row.identifier("qid") if "qid" in row else video_id,
        video_id=video_id,
        query=row.sentence("query", empty=True) if "query" in row else "",
        moments=moments,
        saliency=saliency,
    )


def write_submission(path: str | Path, rows: Sequence[SubmissionRow]) -> None:
    """Write predictions; the file appears whole or not at all."""
    write_whole(Path(path), _encode(rows))


def write_server_archive(
    path: str | Path, splits: Mapping[Literal["val", "test"], Sequence[SubmissionRow]]
) -> None:
    """Write the flat zip that the QVHighlights server takes: hl_{val,test}_submission.jsonl."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for split, rows in splits.items():
            entry = zipfile.ZipInfo(f"hl_{split}_submission.jsonl")  # dated 1980: same bytes again
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, _encode(rows))
    write_whole(Path(path), buffer.getvalue())


def _encode(rows: Sequence[SubmissionRow]) -> bytes:
    return to_json_lines(map(_fields, rows))


def _fields(row: SubmissionRow) -> dict[str, Any]:
    fields: dict[str, Any] = {"vid": row.video_id}
    if row.moments is not None or row.query_id != row.video_id:
        number = row.query_id.isascii() and row.query_id.isdigit() and len(row.query_id) < 19
        # Servers compare ids with their own, and those are integers where they look like one.
        is_integer = number and str(int(row.query_id)) == row.query_id
        query_id = int(row.query_id) if is_integer else row.query_id
        fields = {"qid": query_id, "query": row.query, "vid": row.video_id}
    if row.moments is not None:
        fields["pred_relevant_windows"] = row.moments.tolist()
    if row.saliency is not None:
        fields["pred_saliency_scores"] = row.saliency.tolist()
    return fields
