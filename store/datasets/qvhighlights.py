"""The JSON lines that QVHighlights introduced and others adopted.

Rows are `qid`, `query`, `vid`, `duration` and, if labelled, `relevant_windows`, and for highlights
`relevant_clip_ids` with three annotators' `saliency_scores` of those 2 s clips; clips that are not
listed score 0. Other fields are ignored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from r2t.store.annotations import Annotation, SaliencyLabels, Split
from r2t.store.datasets.fields import (
    LABELLED_CLIP_SECONDS,
    MAX_CLIPS,
    Fields,
    check_moments,
    parse_split,
)
from r2t.store.datasets.formats import AnnotationFormat, FileStart
from r2t.store.datasets.reading import Located, ReadReport, json_rows
from r2t.store.errors import AnnotationError
from r2t.store.video_names import without_suffix


class QVHighlightsRows(AnnotationFormat):
    """A row a query, one a line, in one array or pretty-printed."""

    name = "QVHighlights-like JSON lines (qid, query, vid, duration, …)"
    suffixes = (".jsonl", ".ndjson", ".json")

    def recognises(self, start: FileStart) -> bool:
        return start.row_keys >= {"qid", "vid", "query"}

    def read(self, path: Path, text: str, default: Split, report: ReadReport) -> Located:
        def build(row: Fields) -> Annotation:
            return _released(row, default)

        return report.each(json_rows(path, text, report), build)


def _released(row: Fields, default: Split) -> Annotation:
    if "label" in row:
        raise AnnotationError(
            f"{row.where}: rows with a 'label' hold one domain's highlights, and another file has "
            "the times of their clips; read the dataset's youtube_anno.json or tvsum_anno.json"
        )
    duration = row.number("duration")
    moments = row.matrix("relevant_windows", 2) if "relevant_windows" in row else np.zeros((0, 2))
    return Annotation(
        query_id=row.identifier("qid"),
        video_id=without_suffix(row.identifier("vid")),
        query=row.sentence("query"),
        moments=check_moments(moments, row.where),
        saliency=_clip_saliency(row, duration),
        split=parse_split(row.value("split"), row.at("split")) if "split" in row else default,
        duration_seconds=duration,
    )


def _clip_saliency(row: Fields, duration: float) -> SaliencyLabels | None:
    if "saliency_scores" not in row:
        return None
    num_clips = int(duration / LABELLED_CLIP_SECONDS)
    if not 0 < num_clips <= MAX_CLIPS:
        raise AnnotationError(
            f"{row.at('duration')} = {duration:g}: rows with saliency must last "
            f"{LABELLED_CLIP_SECONDS:g} to {MAX_CLIPS * LABELLED_CLIP_SECONDS:g} s"
        )
    given = row.matrix("saliency_scores", 3, low=0, high=4)
    clip_ids = row.items("relevant_clip_ids")
    if len(clip_ids) != len(given):
        raise AnnotationError(
            f"{row.where}: {len(clip_ids)} relevant_clip_ids but {len(given)} saliency_scores"
        )
    scores = np.zeros((num_clips, 3), dtype=np.float32)
    seen: set[int] = set()
    for clip, values in zip(clip_ids, given, strict=True):
        if not isinstance(clip, int) or isinstance(clip, bool) or not 0 <= clip < num_clips:
            raise AnnotationError(
                f"{row.at('relevant_clip_ids')}: {clip!r} is not a clip of a {duration:g} s video; "
                f"must be 0 to {num_clips - 1}"
            )
        if clip in seen:
            raise AnnotationError(f"{row.at('relevant_clip_ids')}: clip {clip} occurs twice")
        seen.add(clip)
        scores[clip] = values
    return SaliencyLabels(scores, LABELLED_CLIP_SECONDS, lowest=0.0, highest=4.0)
