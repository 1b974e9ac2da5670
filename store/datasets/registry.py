"""All formats of annotation files, told apart by what the files hold."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path

from r2t.store.annotations import SPLITS, Annotation, Split
from r2t.store.datasets.charades import CharadesText
from r2t.store.datasets.ego4d import Ego4dJson
from r2t.store.datasets.fields import parse_split
from r2t.store.datasets.formats import HEAD_CHARACTERS, AnnotationFormat, FileStart, is_prediction
from r2t.store.datasets.own_rows import OwnRows
from r2t.store.datasets.qvhighlights import QVHighlightsRows
from r2t.store.datasets.reading import Located, ReadReport
from r2t.store.datasets.table import CsvTable, looks_like_table
from r2t.store.datasets.text import decode_text, read_content
from r2t.store.datasets.timed_sentences import TimedSentences
from r2t.store.datasets.tvsum import TVSumJson
from r2t.store.datasets.tvsum_mat import TVSumMat
from r2t.store.datasets.youtube_highlights import YouTubeHighlightsJson
from r2t.store.errors import AnnotationError, AnnotationWarning
from r2t.store.progress import OnProgress, no_progress

FORMATS: tuple[AnnotationFormat, ...] = (
    TVSumMat(),
    OwnRows(),
    QVHighlightsRows(),
    Ego4dJson(),
    TimedSentences(),
    YouTubeHighlightsJson(),
    TVSumJson(),
    CharadesText(),
    CsvTable(),
)
"""Every format, in the order in which they are asked whether a file is theirs."""

PREDICTIONS = "these are predictions, not annotations"


def read_annotations(
    path: str | Path,
    *,
    split: Split | None = None,
    domain: str | None = None,
    on_rows: OnProgress = no_progress,
) -> list[Annotation]:
    """Read an annotation file of any known format, in file order.

    A row's split is the one it states; else that of the published lists, for YouTube Highlights
    and TVSum; else train, val or test as a word of the file's stem; else train. `split` overrides
    it for every row, except where published lists decide: there it selects, as `domain` does.
    Moments past the video's end or without length are kept as given; one AnnotationWarning counts
    them and whatever else the reader had to change. `on_rows` is told now and then how many rows
    of about how many have been read.

    Raises:
        AnnotationError: if the file cannot be read, is of no known format, has a row that is not
            legal or an id twice, or holds nothing of the split and domain.
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
                f"{where}: {annotation.name} was already given at "
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
    found = find_format(content)
    text = decode_text(path, content) if found is None or found.is_text else ""
    if found is None:
        raise AnnotationError(f"{path}: {_why_unknown(text)}; known formats are {known_formats()}")
    listed = found.has_published_splits
    default = split or ("train" if listed else split_of_stem(path))
    return found.read(path, text, default, report), listed


def find_format(content: bytes) -> AnnotationFormat | None:
    """Return the format of a file that holds these bytes, or starts with them; None if unknown."""
    start = FileStart.of(content)
    return next((each for each in FORMATS if each.recognises(start)), None)


def known_formats() -> str:
    """Name every format, for messages."""
    *names, last = sorted((each.name for each in FORMATS), key=str.casefold)
    return f"{', '.join(names)} and {last}"


def known_suffixes() -> frozenset[str]:
    """Return the suffixes, in small letters, of files that may be of a known format."""
    return frozenset(suffix for each in FORMATS for suffix in each.suffixes)


def why_unread(path: Path) -> str | None:
    """Say why a file holds no annotations that can be read, judged by its start; None if it may."""
    head = read_content(path, HEAD_CHARACTERS)
    return None if find_format(head) is not None else _why_unknown(FileStart.of(head).text)


def _why_unknown(text: str) -> str:
    """Say of a text that is of no known format what it is instead."""
    if not text.strip():
        return "the file is empty"
    if is_prediction(text):
        return PREDICTIONS
    if (columns := looks_like_table(text)) is not None:
        shown = ", ".join(columns)[:60]
        return f"a table begins with the columns video, query, start and end; this with {shown!r}"
    return f"unknown format, it starts with {text.lstrip()[:40]!r}"


def split_of_stem(path: Path) -> Split:
    """Return the split that a file's name says, else train."""
    words = set(re.split(r"[^a-z0-9]+", path.stem.lower())) & set(SPLITS)
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
