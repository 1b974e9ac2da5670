"""Annotation files of every kind we know, told apart by their content."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from r2t.store.annotation_fields import read_text
from r2t.store.annotations import Annotation, Split
from r2t.store.csv_format import read_csv
from r2t.store.errors import AnnotationError, AnnotationWarning
from r2t.store.files import require_plain
from r2t.store.jsonl_format import read_own_jsonl
from r2t.store.moment_formats import (
    Located,
    Tally,
    parse_split,
    read_charades,
    read_ego4d,
    read_released_jsonl,
    read_tacos,
)
from r2t.store.saliency_formats import read_tvsum_json, read_tvsum_mat, read_youtube_highlights

_SUFFIXES = frozenset({".jsonl", ".json", ".csv", ".txt", ".mat"})
_HEAD_BYTES = 1 << 16
_MAT_MAGIC = b"MATLAB "

Reader = Callable[[Path, str, Split, Tally], Located]

# Keys that must all occur in the first line of JSON lines, or near the start of one JSON document.
_LINE_KEYS: dict[tuple[str, ...], Reader] = {
    ("query_id", "video_id"): read_own_jsonl,
    ("qid", "vid", "query"): read_released_jsonl,
}
_DOCUMENT_KEYS: dict[tuple[str, ...], Reader] = {
    ("videos", "clips"): read_ego4d,
    ("timestamps", "sentences"): read_tacos,
    ("info", "match"): read_youtube_highlights,
    ("title", "anno"): read_tvsum_json,
}
_KNOWN = (
    "our JSON lines (query_id, video_id, query, …), QVHighlights-like JSON lines (qid, query, vid, "
    "duration, …), CSV (video,query,start,end), Charades-STA text, TACoS, Ego4D NLQ, "
    "YouTube Highlights and TVSum JSON, and TVSum's .mat"
)


def read_annotations(
    path: str | Path, *, split: Split | None = None, domain: str | None = None
) -> list[Annotation]:
    """Read an annotation file of any known format, in file order.

    A row's split is the one it states; else that of the published lists, for YouTube Highlights
    and TVSum; else train, val or test as a word of the file's stem; else train. `split` overrides
    it for every row, except where published lists decide: there it selects, as `domain` does.
    Moments past the video's end or without length are kept as given; one AnnotationWarning counts
    them and whatever else the reader had to change.
    """
    path = Path(path)
    if split is not None:
        split = parse_split(split, "split")
    tally = Tally()
    by_query: dict[str, tuple[str, Annotation]] = {}
    located, listed = _open(path, split, tally)
    for where, annotation in located:
        if annotation.query_id in by_query:
            raise AnnotationError(
                f"{where}: query id {annotation.query_id!r} was used already "
                f"({by_query[annotation.query_id][0]}); ids must be unique in a file"
            )
        _note_moments(annotation, tally)
        by_query[annotation.query_id] = where, annotation
    if tally.counts:
        counts = "; ".join(f"{number} {what}" for what, number in tally.counts.items())
        warnings.warn(f"{path}: {counts}", AnnotationWarning, stacklevel=2)
    annotations = [annotation for _, annotation in by_query.values()]
    if split is not None and not listed:
        annotations = [replace(annotation, split=split) for annotation in annotations]
    return _select(path, annotations, split, domain)


def find_annotations(folder: str | Path) -> list[Path]:
    """List the annotation files directly inside a folder of videos, sorted by name."""
    folder = Path(folder)
    if not folder.is_dir():
        raise AnnotationError(f"{folder} is not a folder")
    files = (path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    return sorted(path for path in files if path.is_file() and _is_known(path))


def _open(path: Path, split: Split | None, tally: Tally) -> tuple[Located, bool]:
    """Return the rows and whether published lists decide their splits."""
    head = _head(path)
    if head.startswith(_MAT_MAGIC):
        return read_tvsum_mat(path, tally), True
    text = read_text(path)
    reader = find_reader(head)
    if reader is None:
        raise AnnotationError(f"{path}: {_unknown(text)}; known are {_KNOWN}")
    listed = reader in (read_youtube_highlights, read_tvsum_json)
    default = split or ("train" if listed else split_of_stem(path))
    return reader(path, text, default, tally), listed


def _is_known(path: Path) -> bool:
    head = _head(path)
    return head.startswith(_MAT_MAGIC) or find_reader(head) is not None


def _head(path: Path) -> bytes:
    try:
        require_plain(path)
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise AnnotationError(f"cannot read {path}: {error.strerror or error}") from error


def find_reader(head: bytes) -> Reader | None:
    """Return the reader for text that starts so; None where the format is unknown."""
    text = head.decode("utf-8-sig", errors="replace").lstrip()
    first_line = text.partition("\n")[0]
    if text.startswith("{"):
        first_keys, keys = _keys(first_line), _keys(text)
        if any(key.startswith("pred_") for key in first_keys):
            return None
        for needed, reader in _LINE_KEYS.items():
            if first_keys.issuperset(needed):
                return reader
        return next((r for needed, r in _DOCUMENT_KEYS.items() if keys.issuperset(needed)), None)
    if "##" in first_line:
        return read_charades
    columns = {cell.strip(' "\r') for cell in first_line.split(",")}
    return read_csv if {"video", "query"} <= columns else None


def _keys(json_text: str) -> set[str]:
    return set(re.findall(r'"([A-Za-z_]+)"\s*:', json_text))


def _unknown(text: str) -> str:
    if not text.strip():
        return "the file is empty"
    if '"pred_' in text[:_HEAD_BYTES]:
        return "these are predictions, not annotations"
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


def _note_moments(annotation: Annotation, tally: Tally) -> None:
    moments, duration = annotation.moments, annotation.duration_seconds
    for start, end in moments:
        if duration is not None and end > duration:
            tally.add("moments end after their video (kept as given)")
        if start == end:
            tally.add("moments have no length (kept as given)")


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
