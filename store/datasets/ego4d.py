"""Ego4D's nested NLQ file; a video here is a clip of Ego4D (`clip_uid`).

Query ids are `annotation_uid` and the query's index. Language queries without text, of which the
released files have six, are left out and counted.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from r2t.store.annotations import Annotation, Split
from r2t.store.datasets.fields import Fields, check_moments, parse_json, parse_split
from r2t.store.datasets.formats import AnnotationFormat, FileStart
from r2t.store.datasets.reading import Located, ReadReport
from r2t.store.video_names import without_suffix


class Ego4dJson(AnnotationFormat):
    """One JSON object: videos, their clips, and the clips' annotations."""

    name = "Ego4D NLQ JSON"
    suffixes = (".json",)

    def recognises(self, start: FileStart) -> bool:
        return start.document_keys >= {"videos", "clips"}

    def read(self, path: Path, text: str, default: Split, report: ReadReport) -> Located:
        root = Fields(parse_json(text, str(path)), str(path))
        split = parse_split(root.value("split"), root.at("split")) if "split" in root else default
        clips = (clip for video in root.children("videos") for clip in video.children("clips"))
        for clip in clips:
            video_id = without_suffix(clip.text("clip_uid"))
            duration = None
            if "video_start_sec" in clip and "video_end_sec" in clip:
                duration = clip.number("video_end_sec") - clip.number("video_start_sec")
            for annotation in clip.children("annotations"):
                uid = annotation.text("annotation_uid")
                for index, query in enumerate(annotation.children("language_queries")):
                    sentence = query.sentence("query", empty=True) if "query" in query else ""
                    if not sentence.strip():
                        report.add("language query", "without text (left out)")
                        continue
                    moments = np.zeros((0, 2))
                    if "clip_start_sec" in query:
                        ends = [query.number("clip_start_sec"), query.number("clip_end_sec")]
                        moments = check_moments(np.array([ends]), query.where)
                    yield (
                        query.where,
                        Annotation(
                            query_id=f"{uid}_{index}",
                            video_id=video_id,
                            query=sentence,
                            moments=moments,
                            split=split,
                            duration_seconds=duration,
                        ),
                    )
