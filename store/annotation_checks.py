"""What is wrong with annotations: every finding of a file, where `read_annotations` stops at one.

Rows are read by the very readers that extraction uses, one row at a time, so what passes here is
what extraction accepts. Nothing is changed or repaired.
"""

from __future__ import annotations

import csv
import difflib
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from r2t.store.annotation_fields import MAX_FILE_BYTES, lines_of
from r2t.store.annotations import Annotation, Split
from r2t.store.csv_format import read_csv
from r2t.store.datasets import Reader, find_reader, read_annotations, split_of_stem
from r2t.store.errors import AnnotationError
from r2t.store.files import read_plain
from r2t.store.jsonl_format import read_own_jsonl
from r2t.store.moment_formats import Tally, read_charades, read_released_jsonl

Kind = Literal[
    "encoding",
    "byte_order_mark",
    "unreadable",
    "empty_query",
    "reversed",
    "changed_on_reading",
    "duplicate_id",
    "duplicate_query",
    "repeated_moment",
    "overlap",
    "too_short",
    "no_length",
    "unlabelled",
    "two_splits",
    "missing_video",
    "damaged_video",
    "unannotated_video",
    "wrong_duration",
    "out_of_range",
]

ADVICE: dict[Kind, str] = {
    "encoding": "save the file as UTF-8, such as: iconv -f WINDOWS-1252 -t UTF-8 FILE > FIXED",
    "byte_order_mark": "nothing to do: it is read; other programs may want it gone (UTF-8, no BOM)",
    "unreadable": "correct the row as its message says",
    "empty_query": "write the sentence, or remove the row",
    "reversed": "swap start and end",
    "changed_on_reading": "nothing to do, if the change is what you want",
    "duplicate_id": "give each query its own query_id, or leave the column out of a CSV",
    "duplicate_query": "join the rows of one sentence of one video into one query",
    "repeated_moment": "keep the moment once",
    "overlap": "join moments that overlap into one, or cut where one ends and the next begins",
    "too_short": "widen the moment, or extract with more --fps, so that it lasts one sampled frame",
    "no_length": "set an end after the start",
    "unlabelled": "add moments, or call its split test: such a query teaches nothing",
    "two_splits": "put all queries of a video into one split, or scores are of videos seen before",
    "missing_video": "put the video into the folder, correct its name, or remove its rows",
    "damaged_video": "replace the file: it cannot be decoded, so its queries will be left out",
    "unannotated_video": "nothing to do: its features are stored, for `predict` and `search`",
    "wrong_duration": "check that it is the same cut of the video; correct or remove the duration",
    "out_of_range": "check the unit (seconds, not frames or ms) and the cut; end with the video",
}
"""How to put each kind right."""

NOTES: frozenset[Kind] = frozenset(
    {"byte_order_mark", "changed_on_reading", "two_splits", "too_short", "unannotated_video"}
)
"""Kinds that are worth knowing, where nothing need be wrong."""

_LINE_READERS: tuple[Reader, ...] = (read_own_jsonl, read_released_jsonl, read_charades)
_REASONS: Mapping[str, Kind] = {
    "ends before it starts": "reversed",
    "is empty; expected a text": "empty_query",
}
_BOM = b"\xef\xbb\xbf"
_TOLERANCE_SECONDS = 0.5  # files round their durations, and videos end within a frame of them
_TOLERANCE_SHARE = 0.01


@dataclass(frozen=True)
class Finding:
    """One thing found: its kind, the row or video, and what was seen there."""

    kind: Kind
    where: str
    message: str


@dataclass(frozen=True)
class Rows:
    """The rows of a file that can be read, each with its place, and what was found on the way."""

    located: list[tuple[str, Annotation]] = field(default_factory=list[tuple[str, Annotation]])
    findings: list[Finding] = field(default_factory=list[Finding])

    def complain(self, where: str, error: AnnotationError) -> None:
        """Add what a reader said of one row."""
        message = str(error)
        kinds: list[Kind] = [kind for text, kind in _REASONS.items() if text in message]
        self.findings.append(Finding(kinds[0] if kinds else "unreadable", where, message))


def read_leniently(path: str | Path, split: Split | None = None) -> Rows:
    """Read what can be read of an annotation file; raise `AnnotationError` if it cannot be opened.

    Formats with a row a line give every bad row; the others stop at their first.
    """
    path = Path(path)
    rows = Rows()
    text = _text(path, rows)
    reader = find_reader(text.encode()) if text is not None else None
    if text is None or reader is None or reader not in (read_csv, *_LINE_READERS):
        _read_whole(path, split, rows)
        return rows
    tally = Tally()
    try:
        default = split or split_of_stem(path)
    except AnnotationError as error:
        rows.complain(str(path), error)
        default = "train"
    if reader is read_csv:
        _read_table(path, text, default, tally, rows)
    else:
        _read_lines(path, text, reader, default, tally, rows)
    rows.findings.extend(
        Finding("changed_on_reading", str(path), f"{number} {what}")
        for what, number in tally.counts.items()
    )
    return rows


def check_annotations(
    located: Sequence[tuple[str, Annotation]], frame_rate_fps: float
) -> Iterator[Finding]:
    """Find what annotations say wrong of themselves, whatever the videos are."""
    ids: dict[str, str] = {}
    sentences: dict[tuple[str, str], str] = {}
    splits: dict[str, set[str]] = {}
    for where, row in located:
        if row.query_id in ids:
            yield Finding(
                "duplicate_id", where, f"{row.query_id!r} was used at {ids[row.query_id]}"
            )
        elif (row.video_id, row.query) in sentences:
            earlier = sentences[row.video_id, row.query]
            yield Finding("duplicate_query", where, f"{row.query!r} was asked at {earlier}")
        ids.setdefault(row.query_id, where)
        sentences.setdefault((row.video_id, row.query), where)
        splits.setdefault(row.video_id, set()).add(row.split)
        yield from _check_moments(where, row, frame_rate_fps)
    for video_id, names in splits.items():
        if len(names) > 1:
            yield Finding("two_splits", video_id, f"in {' and '.join(sorted(names))}")


def check_against_videos(
    located: Sequence[tuple[str, Annotation]], durations_seconds: Mapping[str, float | str]
) -> Iterator[Finding]:
    """Find what annotations say wrong of the videos.

    `durations_seconds` has every video of the folder: its duration, or why it cannot be decoded.
    """
    names = list(durations_seconds)
    told: set[str] = set()
    for where, row in located:
        found = durations_seconds.get(row.video_id)
        if isinstance(found, float):
            yield from _check_times(where, row, found)
        elif row.video_id not in told:
            told.add(row.video_id)
            if found is None:
                close = difflib.get_close_matches(row.video_id, names, n=1, cutoff=0.7)
                hint = f"; there is {close[0]!r}" if close else ""
                yield Finding("missing_video", where, f"no video {row.video_id!r}{hint}")
            else:
                yield Finding("damaged_video", row.video_id, str(found))
    annotated = {row.video_id for _, row in located}
    for video_id in names:
        if video_id not in annotated:
            yield Finding("unannotated_video", video_id, "no query asks it")


def _check_moments(where: str, row: Annotation, frame_rate_fps: float) -> Iterator[Finding]:
    moments: list[tuple[float, float]] = [(start, end) for start, end in row.moments.tolist()]
    if not moments and row.saliency is None and row.split != "test":
        yield Finding("unlabelled", where, f"{row.query!r} has no moment")
    for start, end in moments:
        if start == end:
            yield Finding("no_length", where, f"[{start:g}, {end:g}]")
        elif end - start < 1 / frame_rate_fps:
            seconds = f"{1 / frame_rate_fps:g} s at {frame_rate_fps:g} fps"
            yield Finding("too_short", where, f"[{start:g}, {end:g}]; a sampled frame is {seconds}")
    ordered = sorted(moments)
    for (start, end), (later_start, later_end) in itertools.pairwise(ordered):
        pair = f"[{start:g}, {end:g}] and [{later_start:g}, {later_end:g}]"
        if (start, end) == (later_start, later_end):
            yield Finding("repeated_moment", where, f"[{start:g}, {end:g}]")
        elif later_start < end:
            yield Finding("overlap", where, pair)


def _check_times(where: str, row: Annotation, duration_seconds: float) -> Iterator[Finding]:
    tolerance = max(_TOLERANCE_SECONDS, _TOLERANCE_SHARE * duration_seconds)
    stated = row.duration_seconds
    if stated is not None and abs(stated - duration_seconds) > tolerance:
        yield Finding(
            "wrong_duration",
            where,
            f"{row.video_id}: {stated:g} s stated, the video lasts {duration_seconds:.2f} s",
        )
    for start, end in row.moments.tolist():
        if end > duration_seconds + _TOLERANCE_SECONDS:
            yield Finding(
                "out_of_range",
                where,
                f"[{start:g}, {end:g}] of {row.video_id}, which ends at {duration_seconds:.2f} s",
            )


def _text(path: Path, rows: Rows) -> str | None:
    """Return a file's text, by another encoding than UTF-8 if it must be; None for binary files."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return None
        content = read_plain(path, MAX_FILE_BYTES)
    except OSError as error:
        raise AnnotationError(f"cannot read {path}: {error.strerror or error}") from error
    if content.startswith(_BOM):
        message = "the file starts with a UTF-8 byte order mark"
        rows.findings.append(Finding("byte_order_mark", str(path), message))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if b"\0" in content and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
            return None
        guess = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "cp1252"
        message = f"not UTF-8 (byte {error.start}), perhaps {guess}"
        rows.findings.append(Finding("encoding", str(path), message))
        return content.decode(guess, errors="replace")


def _read_whole(path: Path, split: Split | None, rows: Rows) -> None:
    try:
        annotations = read_annotations(path, split=split)
    except AnnotationError as error:
        rows.complain(str(path), error)
        return
    rows.located.extend((f"{path}, query {row.query_id}", row) for row in annotations)


def _read_lines(
    path: Path, text: str, reader: Reader, default: Split, tally: Tally, rows: Rows
) -> None:
    if reader is read_charades:
        # Its ids count the queries of a video, so single lines would all be the first.
        numbered = _numbered(path, text, default, tally, rows)
        rows.located.extend(numbered)
        return
    for where, line in lines_of(path, text):
        try:
            rows.located.extend((where, row) for _, row in reader(path, line, default, tally))
        except AnnotationError as error:
            rows.complain(where, _moved(error, f"{path}, line 1", where))


def _numbered(
    path: Path, text: str, default: Split, tally: Tally, rows: Rows
) -> Iterator[tuple[str, Annotation]]:
    good: list[tuple[str, str]] = []
    for where, line in lines_of(path, text):
        try:
            list(read_charades(path, line, default, Tally()))
            good.append((where, line))
        except AnnotationError as error:
            rows.complain(where, _moved(error, f"{path}, line 1", where))
    whole = "\n".join(line for _, line in good)
    read = read_charades(path, whole, default, tally)
    yield from ((where, row) for (where, _), (_, row) in zip(good, read, strict=True))


def _read_table(path: Path, text: str, default: Split, tally: Tally, rows: Rows) -> None:
    header: list[str] = []
    good: list[list[str]] = []
    places: dict[tuple[str, str], str] = {}
    for where, cells in _cells(path, text, rows):
        try:
            found = list(
                read_csv(path, _table([*([header] if header else []), cells]), default, tally)
            )
        except AnnotationError as error:
            rows.complain(where, _moved(error, f"{path}, line {2 if header else 1}", where))
            if not header:
                return
        else:
            good.append(cells)
            for _, row in found:
                places.setdefault((row.query_id, row.query), where)
        header = header or cells
    try:
        for where, row in read_csv(path, _table(good), default, tally):
            rows.located.append((places.get((row.query_id, row.query), where), row))
    except AnnotationError as error:
        rows.complain(str(path), error)


def _cells(path: Path, text: str, rows: Rows) -> Iterator[tuple[str, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield f"{path}, line {reader.line_num}", cells
    except csv.Error as error:
        where = f"{path}, line {reader.line_num}"
        rows.complain(where, AnnotationError(f"{where}: {error}; what follows was not read"))


def _table(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _moved(error: AnnotationError, said: str, where: str) -> AnnotationError:
    """Name the row's own place in a complaint about it, read alone."""
    return AnnotationError(str(error).replace(said, where))
