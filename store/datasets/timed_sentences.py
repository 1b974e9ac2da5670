"""TACoS' JSON, and the layout of ActivityNet Captions that Charades-CD and others took over.

A file name has `timestamps` in frames, `sentences`, `fps` and `num_frames`. Without `fps`,
`timestamps` and `duration` are in seconds. Query ids count a video's sentences, as in `AO8RW_0`.
"""

from __future__ import annotations

from pathlib import Path

from r2t.store.annotations import Annotation, Split
from r2t.store.datasets.fields import (
    MAX_SECONDS,
    Fields,
    check_moments,
    check_sentence,
    parse_json,
)
from r2t.store.datasets.formats import AnnotationFormat, FileStart
from r2t.store.datasets.reading import Located, ReadReport
from r2t.store.errors import AnnotationError
from r2t.store.video_names import video_id_of
from r2t.store.wording import counted


class TimedSentences(AnnotationFormat):
    """One JSON object: each video with its sentences and their times."""

    name = "Charades-CD and TACoS JSON"
    suffixes = (".json",)

    def recognises(self, start: FileStart) -> bool:
        return start.document_keys >= {"timestamps", "sentences"}

    def read(self, path: Path, text: str, default: Split, report: ReadReport) -> Located:
        videos = Fields(parse_json(text, str(path)), str(path))
        for name in videos:
            record = videos.child(name)
            in_seconds = "fps" not in record and "duration" in record
            fps = 1.0 if in_seconds else record.number("fps", low=0.1, high=1000)
            frames = record.matrix("timestamps", 2, high=MAX_SECONDS * (1 if in_seconds else 1000))
            sentences = record.items("sentences")
            if len(sentences) != len(frames):
                raise AnnotationError(
                    f"{record.where}: {counted(len(frames), 'timestamp')} but "
                    f"{counted(len(sentences), 'sentence')}"
                )
            video_id = video_id_of(name, record.where)
            duration = record.number("duration") if in_seconds else record.count("num_frames") / fps
            for index, sentence in enumerate(sentences):
                where = f"{record.where}, sentence {index}"
                yield (
                    where,
                    Annotation(
                        query_id=f"{video_id}_{index}",
                        video_id=video_id,
                        query=check_sentence(sentence, where),
                        moments=check_moments(frames[index : index + 1] / fps, where),
                        split=default,
                        duration_seconds=duration,
                    ),
                )
