"""Annotations as a table: one moment a row, as a spreadsheet saves it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from r2t.store.annotations import Annotation, Split, make_query_id
from r2t.store.datasets.fields import (
    check_moment,
    check_sentence,
    check_text,
    parse_number,
    parse_split,
)
from r2t.store.datasets.formats import AnnotationFormat, FileStart
from r2t.store.datasets.reading import Located, ReadReport
from r2t.store.errors import AnnotationError
from r2t.store.video_names import video_id_of

REQUIRED_COLUMNS = ("video", "query", "start", "end")
OPTIONAL_COLUMNS = ("split", "query_id", "duration", "domain")
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_EXCEL_HINT = re.compile(r"sep=[,;\t]\r?\n")  # Excel names its delimiter so, above the header
_DECIMAL_COMMA = re.compile(r"\s*[0-9]+,[0-9]+\s*")
_DECIMAL_COMMAS = "with a decimal comma (1,5 read as 1.5)"

_Facts = tuple[str, Split, float | None, str]  # query_id, split, duration, domain


@dataclass
class _Query:
    where: str
    facts: _Facts
    moments: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])


class CsvTable(AnnotationFormat):
    """Rows of `video,query,start,end`; those of one (video, query) are one query.

    Cells are divided by commas, semicolons or tabs, as the header shows; where commas do not
    divide, they may be decimal ones. `start` and `end`, in seconds, may both be empty: a query
    without ground truth. Optional columns: split, query_id, duration (of the video, in seconds),
    domain.
    """

    name = "CSV (video,query,start,end)"
    suffixes = (".csv", ".tsv", ".tab")

    def recognises(self, start: FileStart) -> bool:
        return not start.is_json and _columns(start.text) is not None

    def read(self, path: Path, text: str, default: Split, report: ReadReport) -> Located:
        queries: dict[tuple[str, str], _Query] = {}
        for where, row in _rows(path, text, report):
            try:
                video_id = video_id_of(check_text(row["video"], f"{where}, video"), where)
                key = video_id, check_sentence(row["query"], f"{where}, query").strip()
                facts = _facts(row, key, default, where)
                moment = _moment(row, where)
                query = queries.get(key)
                if query is None:
                    query = queries[key] = _Query(where, facts)
                _require_same_facts(query, facts, where)
            except AnnotationError as error:
                report.refuse(where, error)
                continue
            if moment is not None:
                query.moments.append(moment)
        for (video_id, sentence), query in queries.items():
            query_id, split, duration, domain = query.facts
            yield (
                query.where,
                Annotation(
                    query_id=query_id,
                    video_id=video_id,
                    query=sentence,
                    moments=np.array(query.moments, dtype=np.float64).reshape(-1, 2),
                    split=split,
                    domain=domain,
                    duration_seconds=duration,
                ),
            )


def _columns(text: str) -> tuple[str, list[str]] | None:
    """Return the delimiter and the columns of a table of annotations; None for another text.

    Letter case of the columns is ignored, as are blanks around them.
    """
    for delimiter in _DELIMITERS:
        columns = _header_cells(text, delimiter)
        if {"video", "query"} <= set(columns):
            return delimiter, columns
    return None


def looks_like_table(text: str) -> list[str] | None:
    """Return the first line of a text that may be a table, None if it has fewer than 3 cells."""
    if text.lstrip()[:1] in ("{", "[") or "##" in text:
        return None
    return next(
        (found for each in _DELIMITERS if len(found := _header_cells(text, each)) > 2), None
    )


def _header_cells(text: str, delimiter: str) -> list[str]:
    """Return the cells of a text's first line, in small letters."""
    line = _without_hint(text).lstrip().partition("\n")[0]
    try:
        rows = list(csv.reader([line], delimiter=delimiter))
    except csv.Error:
        return []
    return [cell.strip().lower() for cells in rows for cell in cells]


def _require_same_facts(query: _Query, facts: _Facts, where: str) -> None:
    if query.facts != facts:
        raise AnnotationError(
            f"{where} and {query.where} ask the same sentence of the same video, but differ in "
            f"split, query_id, duration or domain: {facts} and {query.facts}"
        )


def _rows(path: Path, text: str, report: ReadReport) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each row's cells by column, and all columns that there may be."""
    text = _without_hint(text)
    found = _columns(text)
    delimiter = found[0] if found else ","
    report.begin(text.count("\n"))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    columns: list[str] = []
    blank = dict.fromkeys(OPTIONAL_COLUMNS, "")
    try:
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if not any(map(str.strip, cells)):
                continue
            report.advance()
            try:
                if not columns:
                    columns = _header(cells, where)
                    continue
                _require_cells(cells, columns, delimiter, where)
            except AnnotationError as error:
                report.refuse(where, error)
                if not columns:
                    return
                continue
            row = blank | dict(zip(columns, cells, strict=True))
            if delimiter != ",":
                _read_decimal_commas(row, report)
            yield where, row
    except csv.Error as error:
        where = f"{path}, line {reader.line_num}"
        report.refuse(where, AnnotationError(f"{where}: {error}; the rest was not read"))


def _header(cells: list[str], where: str) -> list[str]:
    columns = [cell.strip().lower() for cell in cells]
    unknown = [name for name in columns if name not in REQUIRED_COLUMNS + OPTIONAL_COLUMNS]
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    if unknown or missing or len(set(columns)) < len(columns):
        raise AnnotationError(
            f"{where}: the columns are {', '.join(columns)}; required are "
            f"{', '.join(REQUIRED_COLUMNS)}, optional {', '.join(OPTIONAL_COLUMNS)}, each at most "
            "once"
        )
    return columns


def _require_cells(cells: list[str], columns: list[str], delimiter: str, where: str) -> None:
    if len(cells) != len(columns):
        raise AnnotationError(
            f"{where}: {len(cells)} cells under {len(columns)} columns; text with a "
            f"{_DELIMITERS[delimiter]} needs quotes"
        )


def _read_decimal_commas(row: dict[str, str], report: ReadReport) -> None:
    for name in ("start", "end", "duration"):
        if _DECIMAL_COMMA.fullmatch(row[name]):
            row[name] = row[name].replace(",", ".")
            report.add("number", _DECIMAL_COMMAS)


def _without_hint(text: str) -> str:
    hint = _EXCEL_HINT.match(text)
    return text[hint.end() :] if hint else text


def _facts(row: dict[str, str], key: tuple[str, str], default: Split, where: str) -> _Facts:
    query_id = check_text(row["query_id"], f"{where}, query_id", empty=True)
    split, duration = row["split"].strip(), row["duration"].strip()
    return (
        query_id or make_query_id(*key),
        parse_split(split, f"{where}, split") if split else default,
        parse_number(duration, f"{where}, duration") if duration else None,
        check_text(row["domain"], f"{where}, domain", empty=True),
    )


def _moment(row: dict[str, str], where: str) -> tuple[float, float] | None:
    if not (row["start"].strip() or row["end"].strip()):
        return None
    start = parse_number(row["start"], f"{where}, start")
    end = parse_number(row["end"], f"{where}, end")
    check_moment(start, end, where)
    return start, end
