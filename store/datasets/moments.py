"""Readers of the moment retrieval datasets' own files and of CSV.

Each takes a file's text and yields (where, annotation) in file order; nothing is clamped to the
video. What a reader had to change or leave out is counted in the ReadReport it is
given.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r2t.store.annotations import Annotation, SaliencyLabels, Split
from r2t.store.datasets.annotation_fields import (
    MAX_CLIPS,
    MAX_SECONDS,
    Fields,
    check_sentence,
    check_text,
    parse_json,
    parse_number,
    shown,
)
from r2t.store.datasets.annotation_reading import Located, ReadReport, json_rows, lines_of
from r2t.store.errors import AnnotationError
from r2t.store.video_names import video_id_of, without_suffix
from r2t.store.wording import counted

LABELLED_CLIP_SECONDS = 2.0  # of QVHighlights and TVSum
_SPLITS: dict[str, Split] = {"train": "train", "val": "val", "test": "test"}
_NO_MOMENTS = np.zeros((0, 2))


def parse_split(value: object, where: str) -> Split:
    """Return train, val or test."""
    text = check_text(value, where)
    if text not in _SPLITS:
        raise AnnotationError(f"{where} is {shown(text)}; legal are train, val and test")
    return _SPLITS[text]


def read_released_jsonl(path: Path, text: str, default: Split, report: ReadReport) -> Located:
    """Read the JSON lines that QVHighlights introduced and others adopted.

    Rows are `qid`, `query`, `vid`, `duration` and, if labelled, `relevant_windows`, and for
    highlights `relevant_clip_ids` with three annotators' `saliency_scores` of those 2 s clips;
    clips that are not listed score 0. Other fields are ignored.
    """

    def build(row: Fields) -> Annotation:
        return _released(row, default)

    return report.each(json_rows(path, text, report), build)


def _released(row: Fields, default: Split) -> Annotation:
    if "label" in row:
        raise AnnotationError(
            f"{row.where}: rows with a 'label' are one domain's highlights, whose clips another "
            "file times; read the dataset's youtube_anno.json or tvsum_anno.json"
        )
    duration = row.number("duration")
    moments = row.matrix("relevant_windows", 2) if "relevant_windows" in row else _NO_MOMENTS
    return Annotation(
        query_id=row.identifier("qid"),
        video_id=without_suffix(row.identifier("vid")),
        query=row.sentence("query"),
        moments=_forward(moments, row.where),
        saliency=_clip_saliency(row, duration),
        split=parse_split(row.value("split"), row.at("split")) if "split" in row else default,
        duration_seconds=duration,
    )


def _forward(moments: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    if (moments[:, 0] > moments[:, 1]).any():
        start, end = moments[moments[:, 0] > moments[:, 1]][0]
        raise AnnotationError(
            f"{where}: the moment [{start:g}, {end:g}] ends before it starts; swap its ends"
        )
    return moments


def _clip_saliency(row: Fields, duration: float) -> SaliencyLabels | None:
    if "saliency_scores" not in row:
        return None
    num_clips = int(duration / LABELLED_CLIP_SECONDS)
    if not 0 < num_clips <= MAX_CLIPS:
        raise AnnotationError(
            f"{row.at('duration')} = {duration:g}: rows with saliency last "
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
                f"{row.at('relevant_clip_ids')}: {clip!r} is no clip of a {duration:g} s video; "
                f"legal are 0 to {num_clips - 1}"
            )
        if clip in seen:
            raise AnnotationError(f"{row.at('relevant_clip_ids')}: clip {clip} occurs twice")
        seen.add(clip)
        scores[clip] = values
    return SaliencyLabels(scores, LABELLED_CLIP_SECONDS, lowest=0.0, highest=4.0)


def read_charades(path: Path, text: str, default: Split, report: ReadReport) -> Located:
    """Read Charades-STA's text lines `video start end##sentence`.

    Query ids count a video's queries, as in `AO8RW_0`. Reversed ends, of which the released
    training file has four, are swapped and counted. Ends are not clipped to the videos, as they
    are in the JSON lines that others derived from these files.
    """
    num_queries: dict[str, int] = {}
    for where, line in lines_of(path, text, report):
        try:
            video_id, moment, sentence = _charades_row(line, where)
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


def _charades_row(line: str, where: str) -> tuple[str, list[float], str]:
    head, separator, sentence = line.partition("##")
    parts = head.split()
    if not separator or len(parts) != 3:
        raise AnnotationError(f"{where}: expected 'video start end##sentence', got {line!r}")
    return (
        without_suffix(check_text(parts[0], f"{where}, video")),
        [parse_number(parts[1], f"{where}, start"), parse_number(parts[2], f"{where}, end")],
        check_sentence(sentence, f"{where}, sentence"),
    )


def read_timed_sentences(path: Path, text: str, default: Split, report: ReadReport) -> Located:
    """Read TACoS: file name → `timestamps` in frames, `sentences`, `fps`, `num_frames`.

    Without `fps`, `timestamps` and `duration` are in seconds, as in ActivityNet Captions, whose
    layout Charades-CD and others took over. Query ids count a video's sentences, as in `AO8RW_0`.
    """
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
                    moments=_forward(frames[index : index + 1] / fps, where),
                    split=default,
                    duration_seconds=duration,
                ),
            )


def read_ego4d(path: Path, text: str, default: Split, report: ReadReport) -> Located:
    """Read Ego4D's nested NLQ file; a video here is a clip of Ego4D (`clip_uid`).

    Query ids are `annotation_uid` and the query's index. Language queries without text, of which
    the released files have six, are left out and counted.
    """
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
                moments = _NO_MOMENTS
                if "clip_start_sec" in query:
                    ends = [query.number("clip_start_sec"), query.number("clip_end_sec")]
                    moments = _forward(np.array([ends]), query.where)
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
