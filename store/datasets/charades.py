"""Charades-STA's text: lines of `video start end##sentence`.

Query ids count a video's queries, as in `AO8RW_0`. Reversed ends, of which the released training
file has four, are swapped and counted. Ends are not clipped to the videos, as they are in the JSON
lines that others derived from these files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from r2t.store.annotations import Annotation, Split
from r2t.store.datasets.fields import check_sentence, check_text, parse_number
from r2t.store.datasets.formats import AnnotationFormat, FileStart
from r2t.store.datasets.reading import Located, ReadReport, lines_of
from r2t.store.errors import AnnotationError
from r2t.store.video_names import without_suffix


class CharadesText(AnnotationFormat):
    """A line a query."""

    name = "Charades-STA text"
    suffixes = (".txt",)

    def recognises(self, start: FileStart) -> bool:
        return not start.is_json and "##" in start.first_line

    def read(self, path: Path, text: str, default: Split, report: ReadReport) -> Located:
        num_queries: dict[str, int] = {}
        for where, line in lines_of(path, text, report):
            try:
                video_id, moment, sentence = _row(line, where)
            except AnnotationError as error:
                report.refuse(where, error)
                continue
            if moment[0] > moment[1]:
                moment.reverse()
                report.add("moment", "with its end before its start (swapped)")
            index = num_queries.get(video_id, 0)
            num_queries[video_id] = index + 1
            yield (
                where,
                Annotation(
                    query_id=f"{video_id}_{index}",
                    video_id=video_id,
                    query=sentence,
                    moments=np.array([moment]),
                    split=default,
                ),
            )


def _row(line: str, where: str) -> tuple[str, list[float], str]:
    head, separator, sentence = line.partition("##")
    parts = head.split()
    if not separator or len(parts) != 3:
        raise AnnotationError(f"{where}: expected 'video start end##sentence', got {line!r}")
    return (
        without_suffix(check_text(parts[0], f"{where}, video")),
        [parse_number(parts[1], f"{where}, start"), parse_number(parts[2], f"{where}, end")],
        check_sentence(sentence, f"{where}, sentence"),
    )
