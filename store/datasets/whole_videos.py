"""What the datasets of highlights share: whole videos scored clip by clip.

The query is the video's title as it stands and the query id its video id; there are no moments. A
title may be empty, which is counted in the ReadReport: CLIP is then given only its start and end
tokens, as the official features were made.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from r2t.store.annotations import Annotation, SaliencyLabels, Split
from r2t.store.datasets.fields import (
    Fields,
    check_sentence,
    check_text,
    parse_json,
    parse_split,
)
from r2t.store.datasets.reading import ReadReport

MAX_FRAMES = 10_000_000


def records_of(path: Path, text: str) -> Iterator[tuple[str, Fields]]:
    """Yield each video's id and record, of a JSON object with one a video."""
    videos = Fields(parse_json(text, str(path)), str(path))
    for key in videos:
        yield check_text(key, f"{path}, a video id"), videos.child(key)


def split_of_record(
    record: Fields, video_id: str, listed: dict[str, Split], report: ReadReport
) -> Split | None:
    """Return the split that a record states, else the `listed` one; count a video of none."""
    if "split" in record:
        return parse_split(record.value("split"), record.at("split"))
    if video_id not in listed:
        report.add("video", "in no split of the dataset (left out)")
    return listed.get(video_id)


def check_title(value: object, where: str, report: ReadReport) -> str:
    """Return a title as it stands; count one without words."""
    title = check_sentence(value, where, empty=True)
    if not title.strip():
        report.add("title", "without words (kept: CLIP is given only its start and end tokens)")
    return title


def duration_of(record: Fields) -> float:
    """Return a video's seconds: its `frames` at `fps`."""
    fps = record.number("fps", low=0.1, high=1000)
    return record.count("frames", high=MAX_FRAMES) / fps


def whole_video_annotation(
    video_id: str,
    title: str,
    saliency: SaliencyLabels,
    split: Split,
    domain: str,
    duration_seconds: float,
) -> Annotation:
    """Return the annotation of a video that is scored as a whole."""
    return Annotation(
        query_id=video_id,
        video_id=video_id,
        query=title,
        moments=np.zeros((0, 2)),
        saliency=saliency,
        split=split,
        domain=domain,
        duration_seconds=duration_seconds,
    )
