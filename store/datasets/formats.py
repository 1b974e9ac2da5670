"""What a format of annotation files is: how its files are recognised, and how they are read.

To add a format, write a module with a class that is an `AnnotationFormat`, and add one of it to
`FORMATS` in `registry`. Nothing else lists the formats: messages, the survey of a folder and
`r2t data check` ask the registry.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, cast

from r2t.store.annotations import Split
from r2t.store.datasets.reading import Located, ReadReport
from r2t.store.datasets.text import marked_encoding

HEAD_CHARACTERS = 1 << 16
_MOST_BYTES_A_CHARACTER = 4  # in UTF-8 and UTF-16; a byte order mark is one character


class AnnotationFormat(Protocol):
    """One format of annotation files.

    `name` is what people know it by; messages list it. `suffixes` are the endings of its files: a
    folder's files with any format's suffix are looked into, and recognised by their content alone.
    """

    name: str
    suffixes: tuple[str, ...]
    is_text: bool = True
    """Whether its files are text, which `read` is then given; other files `read` opens itself."""
    has_published_splits: bool = False
    """Whether published lists, and not the file's name, say which videos train and evaluate."""

    def recognises(self, start: FileStart) -> bool:
        """Whether a file that starts so is one of this format.

        Formats are asked in the order of the registry, so earlier ones have declined.
        """
        ...

    def read(self, path: Path, text: str, default: Split, report: ReadReport) -> Located:
        """Yield the annotations in file order, each with its place in the file.

        Nothing is clamped to the video. A row that states no split is of the `default` one. What
        has to be changed or left out is counted in the `report`, and a bad row is refused there
        where the format can go on after it; any other error is an `AnnotationError` that names the
        place. `text` is empty for a format whose files are not text.
        """
        ...


@dataclass(frozen=True)
class FileStart:
    """The first 64 thousand characters of a file, and what formats are recognised by.

    `content` is as bytes; `text` without the blanks before it, in the encoding of its byte order
    mark, else UTF-8, where characters that cannot be decoded are replaced.
    """

    content: bytes
    text: str

    @classmethod
    def of(cls, content: bytes) -> FileStart:
        """Take the start of a file's bytes, or of the first ones if they are all that is known."""
        head = content[: (HEAD_CHARACTERS + 1) * _MOST_BYTES_A_CHARACTER]
        text = head.decode(marked_encoding(head) or "utf-8", errors="replace")
        return cls(head, text[:HEAD_CHARACTERS].lstrip())

    @cached_property
    def first_line(self) -> str:
        return self.text.partition("\n")[0]

    @property
    def is_json(self) -> bool:
        return self.text.startswith(("[", "{"))

    @property
    def is_prediction(self) -> bool:
        """Whether these are a model's answers, which no format of annotations takes."""
        return is_prediction(self.text)

    @cached_property
    def row_keys(self) -> frozenset[str]:
        """The keys of the first of several JSON objects; none of predictions and of other texts."""
        if self.text.startswith("["):
            keys = _first_keys(self.text, 1)
        elif self.text.startswith("{"):
            pretty = self.first_line.strip() == "{"
            keys = _first_keys(self.text, 0) if pretty else _keys(self.first_line)
        else:
            return frozenset()
        return frozenset() if any(key.startswith("pred_") for key in keys) else keys

    @cached_property
    def document_keys(self) -> frozenset[str]:
        """All keys near the start of one JSON object; none of predictions and of other texts."""
        if not self.text.startswith("{") or self.is_prediction:
            return frozenset()
        return _keys(self.text)


def is_prediction(text: str) -> bool:
    """Whether a text starts as a model's answers do."""
    return '"pred_' in text[:HEAD_CHARACTERS]


def _first_keys(text: str, start: int) -> frozenset[str]:
    """Return the keys of the first object, or all near it where it does not end in this text."""
    place = re.compile(r"\s*").match(text, start)
    try:
        value, _ = json.JSONDecoder().raw_decode(text, place.end() if place else start)
    except (ValueError, RecursionError):
        return _keys(text)
    return frozenset(cast("dict[str, Any]", value)) if isinstance(value, dict) else frozenset()


def _keys(json_text: str) -> frozenset[str]:
    return frozenset(re.findall(r'"([A-Za-z_]+)"\s*:', json_text))
