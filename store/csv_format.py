"""Annotations as a table: one moment a row, as a spreadsheet saves it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from r2t.store.annotation_fields import check_text, parse_number
from r2t.store.annotations import Annotation, Split
from r2t.store.errors import AnnotationError
from r2t.store.moment_formats import Located, Tally, make_query_id, parse_split, video_id_of

REQUIRED_COLUMNS = ("video", "query", "start", "end")
OPTIONAL_COLUMNS = ("split", "query_id", "duration", "domain")


@dataclass
class _Query:
    where: str
    facts: tuple[str, Split, float | None, str]  # query_id, split, duration, domain
    moments: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])


def read_csv(path: Path, text: str, default: Split, tally: Tally) -> Located:
    """Read `video,query,start,end` rows; rows of one (video, query) are one query.

    `start` and `end`, in seconds, may both be empty: a query without ground truth. Optional
    columns: split, query_id, duration (of the video, in seconds), domain.
    """
    queries: dict[tuple[str, str], _Query] = {}
    for where, row in _rows(path, text):
        video_id = video_id_of(check_text(row["video"], f"{where}, video"), where)
        key = video_id, check_text(row["query"], f"{where}, query")
        facts = _facts(row, key, default, where)
        query = queries.setdefault(key, _Query(where, facts))
        if query.facts != facts:
            raise AnnotationError(
                f"{where} and {query.where} give one query of one video different split, query_id, "
                f"duration or domain: {facts} and {query.facts}"
            )
        moment = _moment(row, where)
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


def _rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] = []
    try:
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = _header([cell.strip() for cell in cells], where)
                continue
            if len(cells) != len(columns):
                raise AnnotationError(
                    f"{where}: {len(cells)} cells under {len(columns)} columns; a text with a "
                    "comma needs quotes"
                )
            yield (
                where,
                dict.fromkeys(OPTIONAL_COLUMNS, "") | dict(zip(columns, cells, strict=True)),
            )
    except csv.Error as error:
        raise AnnotationError(f"{path}, line {reader.line_num}: {error}") from error


def _header(columns: list[str], where: str) -> list[str]:
    unknown = [name for name in columns if name not in REQUIRED_COLUMNS + OPTIONAL_COLUMNS]
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    if unknown or missing or len(set(columns)) < len(columns):
        raise AnnotationError(
            f"{where}: the columns are {', '.join(columns)}; needed are "
            f"{', '.join(REQUIRED_COLUMNS)}, allowed also {', '.join(OPTIONAL_COLUMNS)}, each once"
        )
    return columns


def _facts(
    row: dict[str, str], key: tuple[str, str], default: Split, where: str
) -> tuple[str, Split, float | None, str]:
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
    if start > end:
        raise AnnotationError(
            f"{where}: the moment [{start:g}, {end:g}] ends before it starts; swap its ends"
        )
    return start, end
