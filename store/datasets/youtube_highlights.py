"""YouTube Highlights' youtube_anno.json: a video has `match` (-1, 0 borderline, 1) of its clips.

The clips are equally spaced and overlap by half, yet count as duration / clips seconds each, the
rate at which published models sample these videos. One released title is a blank.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from r2t.store.annotations import SaliencyLabels, Split
from r2t.store.datasets.fields import MAX_CLIPS
from r2t.store.datasets.formats import AnnotationFormat, FileStart
from r2t.store.datasets.reading import Located, ReadReport
from r2t.store.datasets.splits import YOUTUBE_HIGHLIGHTS_SPLITS, split_of
from r2t.store.datasets.whole_videos import (
    check_title,
    duration_of,
    records_of,
    split_of_record,
    whole_video_annotation,
)
from r2t.store.errors import AnnotationError
from r2t.store.wording import counted


class YouTubeHighlightsJson(AnnotationFormat):
    """One JSON object: a record a video."""

    name = "YouTube Highlights JSON"
    suffixes = (".json",)
    has_published_splits = True

    def recognises(self, start: FileStart) -> bool:
        return start.document_keys >= {"info", "match"}

    def read(self, path: Path, text: str, default: Split, report: ReadReport) -> Located:
        listed = split_of(YOUTUBE_HIGHLIGHTS_SPLITS)
        for video_id, record in records_of(path, text):
            split = split_of_record(record, video_id, listed, report)
            if split is None:
                continue
            duration = duration_of(record)
            match = np.array([record.numbers("match", low=-1, high=1)], dtype=np.float32).T
            if not 0 < len(match) <= MAX_CLIPS:
                raise AnnotationError(f"{record.at('match')} has {counted(len(match), 'clip')}")
            info = record.items("info")
            if len(info) < 6:
                raise AnnotationError(
                    f"{record.at('info')} has {counted(len(info), 'entry')}; [5] is the title"
                )
            saliency = SaliencyLabels(match, duration / len(match), lowest=-1.0, highest=1.0)
            title = check_title(info[5], f"{record.at('info')}[5]", report)
            domain = record.text("domain")
            annotation = whole_video_annotation(video_id, title, saliency, split, domain, duration)
            yield record.where, annotation
