"""Annotation files of every kind we know, told apart by their content."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from r2t.store.annotations import Annotation, Split
from r2t.store.datasets.annotation_reading import Located, ReadReport
from r2t.store.datasets.annotation_text import decode, marked_encoding, read_content
from r2t.store.datasets.csv import read_csv, table_columns
from r2t.store.datasets.jsonl import read_own_jsonl
from r2t.store.datasets.moments import (
    parse_split,
    read_charades,
    read_ego4d,
    read_released_jsonl,
    read_timed_sentences,
)
from r2t.store.datasets.saliency import read_tvsum_json, read_tvsum_mat, read_youtube_highlights
from r2t.store.errors import AnnotationError, AnnotationWarning

HEAD_BYTES = 1 << 16
MAT_MAGIC = b"MATLAB "

Reader = Callable[[Path, str, Split, ReadReport], Located]

# Keys that must all occur in the first object of JSON rows, or near the start of one document.
_ROW_KEYS: dict[tuple[str, ...], Reader] = {
    ("query_id", "video_id"): read_own_jsonl,
    ("qid", "vid", "query"): read_released_jsonl,
}
_DOCUMENT_KEYS: dict[tuple[str, ...], Reader] = {
    ("videos", "clips"): read_ego4d,
    ("timestamps", "sentences"): read_timed_sentences,
    ("info", "match"): read_youtube_highlights,
    ("title", "anno"): read_tvsum_json,
}
_KNOWN = (
    "our JSON lines (query_id, video_id, query, …), QVHighlights-like JSON lines (qid, query, vid, "
    "duration, …), CSV (video,query,start,end), Charades-STA text, Charades-CD, TACoS, Ego4D NLQ, "
    "YouTube Highlights and TVSum JSON, and TVSum's .mat"
)
PREDICTIONS = "these are predictions, not annotations"


def read_annotations(
    path: str | Path,
    *,
    split: Split | None = None,
    domain: str | None = None,
    on_rows: Callable[[int, int], None] | None = None,
) -> list[Annotation]:
    """Read an annotation file of any known format, in file order.

    A row's split is the one it states; else that of the published lists, for YouTube Highlights
    and TVSum; else train, val or test as a word of the file's stem; else train. `split` overrides
    it for every row, except where published lists decide: there it selects, as `domain` does.
    Moments past the video's end or without length are kept as given; one AnnotationWarning counts
    them and whatever else the reader had to change. `on_rows` is told now and then how many rows
    of about how many have been read.
    """
    path = Path(path)
    if split is not None:
        split = parse_split(split, "split")
    report = ReadReport(on_rows=on_rows)
    by_query: dict[str, tuple[str, Annotation]] = {}
    located, listed = open_annotations(path, read_content(path), split, report)
    for where, annotation in located:
        if annotation.query_id in by_query:
            raise AnnotationError(
                f"{where}: {annotation.name} was given already at "
                f"{by_query[annotation.query_id][0]}; ids must be unique in a file"
            )
        _note_moments(annotation, report)
        by_query[annotation.query_id] = where, annotation
    if report.counts:
        warnings.warn(f"{path}: {'; '.join(report.told())}", AnnotationWarning, stacklevel=2)
    annotations = [annotation for _, annotation in by_query.values()]
    if split is not None and not listed:
        annotations = [
            annotation if annotation.split == split else replace(annotation, split=split)
            for annotation in annotations
        ]
    return _select(path, annotations, split, domain)


def open_annotations(
    path: Path, content: bytes, split: Split | None, report: ReadReport
) -> tuple[Located, bool]:
    """Return the rows of a file, and whether published lists decide their splits."""
    if content.startswith(MAT_MAGIC):
        return read_tvsum_mat(path, report), True
    text = decode(path, content).text
    reader = find_reader(text[:HEAD_BYTES])
    if reader is None:
        raise AnnotationError(f"{path}: {why_unknown(text)}; known are {_KNOWN}")
    listed = reader in (read_youtube_highlights, read_tvsum_json)
    default = split or ("train" if listed else split_of_stem(path))
    return reader(path, text, default, report), listed


def why_unread(path: Path) -> str | None:
    """Say why a file holds no annotations that can be read, judged by its start; None if it may."""
    head = read_content(path, HEAD_BYTES)
    if head.startswith(MAT_MAGIC):
        return None
    text = head.decode(marked_encoding(head) or "utf-8", errors="replace")
    return None if find_reader(text) is not None else why_unknown(text)


def find_reader(text: str) -> Reader | None:
    """Return the reader for text that starts so; None where the format is unknown."""
    text = text.lstrip()
    first_line = text.partition("\n")[0]
    if text.startswith("["):
        return _row_reader(_first_keys(text, 1))
    if text.startswith("{"):
        pretty = first_line.strip() == "{"
        reader = _row_reader(_first_keys(text, 0) if pretty else _keys(first_line))
        if reader is not None or is_prediction(text):
            return reader
        keys = _keys(text)
        return next((r for needed, r in _DOCUMENT_KEYS.items() if keys.issuperset(needed)), None)
    if "##" in first_line:
        return read_charades
    return None if table_columns(text) is None else read_csv


def _row_reader(keys: set[str]) -> Reader | None:
    if any(key.startswith("pred_") for key in keys):
        return None
    return next((reader for needed, reader in _ROW_KEYS.items() if keys.issuperset(needed)), None)


def _first_keys(text: str, start: int) -> set[str]:
    """Return the keys of the first object, or all near it where it does not end in this text."""
    place = re.compile(r"\s*").match(text, start)
    try:
        value, _ = json.JSONDecoder().raw_decode(text, place.end() if place else start)
    except (ValueError, RecursionError):
        return _keys(text)
    return set(cast("dict[str, Any]", value)) if isinstance(value, dict) else set()


def is_prediction(text: str) -> bool:
    """Whether a text's start is that of predictions."""
    return '"pred_' in text[:HEAD_BYTES]


def _keys(json_text: str) -> set[str]:
    return set(re.findall(r'"([A-Za-z_]+)"\s*:', json_text))


def why_unknown(text: str) -> str:
    """Say of a text that no reader takes what it is instead."""
    if not text.strip():
        return "the file is empty"
    if is_prediction(text):
        return PREDICTIONS
    return f"unknown format, it starts with {text.lstrip()[:40]!r}"


def split_of_stem(path: Path) -> Split:
    """Return the split that a file's name says, else train."""
    words = set(re.split(r"[^a-z0-9]+", path.stem.lower())) & {"train", "val", "test"}
    if len(words) > 1:
        raise AnnotationError(
            f"{path}: the name says {' and '.join(sorted(words))}; rename the file or state a "
            "split in its rows"
        )
    return parse_split(words.pop(), str(path)) if words else "train"


def _note_moments(annotation: Annotation, report: ReadReport) -> None:
    duration = annotation.duration_seconds
    for start, end in annotation.moments.tolist():
        if duration is not None and end > duration:
            report.add("moment", "past the end of the video (kept as given)")
        if start == end:
            report.add("moment", "without length (kept as given)")


def _select(
    path: Path, annotations: list[Annotation], split: Split | None, domain: str | None
) -> list[Annotation]:
    chosen = [
        annotation
        for annotation in annotations
        if split in (None, annotation.split) and domain in (None, annotation.domain)
    ]
    if not chosen:
        offered = sorted({(a.domain, a.split) for a in annotations})
        pairs = ", ".join(f"{d or '(none)'}/{s}" for d, s in offered) or "no rows at all"
        raise AnnotationError(
            f"{path}: no rows of split {split or 'any'}, domain {domain or 'any'}; "
            f"the file holds {pairs}"
        )
    return chosen
