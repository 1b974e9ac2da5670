"""TVSum's tvsum_anno.json: a video has `anno` [clips][annotators] of 1 to 5, clips of 2 s."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from r2t.store.annotations import SaliencyLabels, Split
from r2t.store.datasets.fields import LABELLED_CLIP_SECONDS, MAX_CLIPS
from r2t.store.datasets.formats import AnnotationFormat, FileStart
from r2t.store.datasets.reading import Located, ReadReport
from r2t.store.datasets.splits import TVSUM_SPLITS, split_of
from r2t.store.datasets.whole_videos import (
    check_title,
    duration_of,
    records_of,
    split_of_record,
    whole_video_annotation,
)
from r2t.store.errors import AnnotationError
from r2t.store.wording import counted


class TVSumJson(AnnotationFormat):
    """One JSON object: a record a video."""

    name = "TVSum JSON"
    suffixes = (".json",)
    has_published_splits = True

    def recognises(self, start: FileStart) -> bool:
        return start.document_keys >= {"title", "anno"}

    def read(self, path: Path, text: str, default: Split, report: ReadReport) -> Located:
        listed = split_of(TVSUM_SPLITS)
        for video_id, record in records_of(path, text):
            split = split_of_record(record, video_id, listed, report)
            if split is None:
                continue
            scores = record.matrix("anno", low=1, high=5).astype(np.float32)
            if not 0 < len(scores) <= MAX_CLIPS:
                raise AnnotationError(f"{record.at('anno')} has {counted(len(scores), 'clip')}")
            saliency = SaliencyLabels(scores, LABELLED_CLIP_SECONDS, lowest=1.0, highest=5.0)
            domain = record.text("domain")
            title = check_title(record.value("title"), record.at("title"), report)
            duration = duration_of(record)
            annotation = whole_video_annotation(video_id, title, saliency, split, domain, duration)
            yield record.where, annotation
