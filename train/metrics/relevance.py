"""Which videos a sentence is right for: those it was annotated in, and any more that are known."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from r2t.store.annotations import Annotation
from r2t.store.errors import AnnotationError, AnnotationWarning
from r2t.store.files import read_plain
from r2t.store.json_lines import numbered_lines
from r2t.store.wording import counted, counted_of

Relevance = Mapping[str, Collection[str]]  # video ids by query id
_MAX_BYTES = 1 << 30


def relevant_videos(
    annotations: Sequence[Annotation], further: Relevance | None = None
) -> dict[str, set[str]]:
    """Return the annotated videos that fit each annotated query, by its id.

    They are those that the same sentence is annotated for, and those that `further` names. It may
    also name other queries and videos: an `AnnotationWarning` counts such videos.

    Raises:
        AnnotationError: if `further` names none of these queries, or for them none of these videos:
            it belongs to another split.
    """
    by_sentence: dict[str, set[str]] = {}
    for row in annotations:
        by_sentence.setdefault(row.query, set()).add(row.video_id)
    videos = {row.video_id for row in annotations}
    named = {row.query_id: set((further or {}).get(row.query_id, ())) for row in annotations}
    if further is not None:
        _require_known(further, named, videos)
    return {
        row.query_id: by_sentence[row.query] | (named[row.query_id] & videos) for row in annotations
    }


def _require_known(further: Relevance, named: Mapping[str, set[str]], videos: set[str]) -> None:
    if named and not further.keys() & named.keys():
        raise AnnotationError(
            f"{counted(len(further), 'query')} with videos that fit, and none is one of the "
            f"{len(named)} of this split, such as {next(iter(named))!r}: give the file of this "
            "split, with the query ids of the store"
        )
    every = set[str]().union(*named.values())
    unknown = sorted(every - videos)
    if unknown and len(unknown) == len(every):
        raise AnnotationError(
            f"{counted(len(every), 'video')} that queries fit, such as {unknown[0]!r}, and none is "
            f"one of the {len(videos)} of this split, such as {min(videos)!r}: give video ids as "
            "the store has them, not names of files"
        )
    if unknown:
        warnings.warn(
            f"{counted_of(len(unknown), len(every), 'video')} that queries fit are not of this "
            f"split, such as {unknown[0]!r}: they are left out",
            AnnotationWarning,
            stacklevel=3,
        )


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
