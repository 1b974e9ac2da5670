"""Which videos a sentence is right for: those it was annotated in, and any more that are known."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from r2t.store.annotations import Annotation
from r2t.store.errors import AnnotationError
from r2t.store.files import read_plain
from r2t.store.json_lines import numbered_lines

Relevance = Mapping[str, Collection[str]]  # video ids by query id
_MAX_BYTES = 1 << 30


def relevant_videos(
    annotations: Sequence[Annotation], further: Relevance | None = None
) -> dict[str, set[str]]:
    """Return the videos that fit each annotated query, by its id.

    They are those that the same sentence is annotated for, and those that `further` names.
    """
    by_sentence: dict[str, set[str]] = {}
    for row in annotations:
        by_sentence.setdefault(row.query, set()).add(row.video_id)
    further = further or {}
    return {
        row.query_id: by_sentence[row.query] | set(further.get(row.query_id, ()))
        for row in annotations
    }


def read_relevance(path: Path) -> dict[str, list[str]]:
    """Read which videos fit queries: JSON lines of `query_id` and `relevant`, a list of video ids.

    Raises:
        AnnotationError: if a line is anything else.
    """
    found: dict[str, list[str]] = {}
    try:
        text = read_plain(path, _MAX_BYTES).decode()
    except (OSError, ValueError) as error:
        raise AnnotationError(f"cannot read {path}: {error}") from error
    for number, line in numbered_lines(text):
        row = _parse(line)
        if row is None:
            raise AnnotationError(
                f"{path}:{number}: expected an object with query_id, a text, and relevant, a list "
                f"of video ids, not {line[:80]!r}"
            )
        query_id, videos = row
        found.setdefault(query_id, []).extend(videos)
    return found


def _parse(line: str) -> tuple[str, list[str]] | None:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    query_id, videos = row.get("query_id"), row.get("relevant")
    if not (isinstance(query_id, str) and isinstance(videos, list)):
        return None
    if not all(isinstance(each, str) for each in videos):
        return None
    return query_id, videos
