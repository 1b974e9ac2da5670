"""What every reader of annotations is given: where to report, and the rows of JSON files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from r2t.store.annotations import Annotation
from r2t.store.datasets.fields import Fields, check_list, parse_json, parse_json_at
from r2t.store.errors import AnnotationError
from r2t.store.json_lines import numbered_lines
from r2t.store.progress import OnProgress, no_progress
from r2t.store.wording import counted

_TELL_EVERY_ROWS = 5000

Located = Iterator[tuple[str, Annotation]]
"""Annotations, each with its place in the file."""


@dataclass
class ReadReport:
    """What happens while a file is read.

    `counts` is how often a reader met what deserves a warning. A row that cannot be read ends the
    reading with its `AnnotationError`, unless `on_bad_row` takes its place and error. `on_rows` is
    told how many rows have been read, of how many.
    """

    counts: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    on_bad_row: Callable[[str, AnnotationError], None] | None = None
    on_rows: OnProgress = no_progress
    _num_rows: int = 0
    _total: int = 0

    def add(self, noun: str, what: str) -> None:
        """Count something that deserves a warning: so many of `noun`, and what about them."""
        self.counts[noun, what] = self.counts.get((noun, what), 0) + 1

    def told(self) -> list[str]:
        """Return what deserves a warning, as phrases: "2 moments without length"."""
        return [f"{counted(number, noun)} {what}" for (noun, what), number in self.counts.items()]

    def refuse(self, where: str, error: AnnotationError) -> None:
        """Report a row that cannot be read, and raise its error unless somebody takes it."""
        if self.on_bad_row is None:
            raise error
        self.on_bad_row(where, error)

    def begin(self, total: int) -> None:
        """Say about how many rows there are."""
        self._num_rows, self._total = 0, total

    def advance(self) -> None:
        """Say that a row is read."""
        self._num_rows += 1
        if self._num_rows % _TELL_EVERY_ROWS == 0:
            self.on_rows(self._num_rows, max(self._total, self._num_rows))

    def each(self, rows: Iterable[Fields], build: Callable[[Fields], Annotation]) -> Located:
        """Yield what is built of each row, with its place."""
        for row in rows:
            try:
                annotation = build(row)
            except AnnotationError as error:
                self.refuse(row.where, error)
            else:
                yield row.where, annotation


def lines_of(path: Path, text: str, report: ReadReport) -> Iterator[tuple[str, str]]:
    """Yield (where, line) of every line that is not blank; only newlines end a line."""
    report.begin(text.count("\n") + 1)
    for number, line in numbered_lines(text):
        yield f"{path}, line {number}", line
        report.advance()


def json_rows(path: Path, text: str, report: ReadReport) -> Iterator[Fields]:
    """Yield the objects of a file: one a line, in one array, or pretty-printed in a sequence."""
    for where, value in _json_values(path, text, report):
        try:
            yield Fields(parse_json(value, where) if isinstance(value, str) else value, where)
        except AnnotationError as error:
            report.refuse(where, error)


def _json_values(path: Path, text: str, report: ReadReport) -> Iterator[tuple[str, object]]:
    """Yield each value with its place; a line as its text, not yet parsed."""
    start = text.lstrip()
    try:
        if start.startswith("["):
            values = check_list(parse_json(text, str(path)), str(path))
            report.begin(len(values))
            for number, value in enumerate(values, start=1):
                yield f"{path}, item {number}", None if isinstance(value, str) else value
                report.advance()
        elif start.partition("\n")[0].strip() == "{":
            yield from _pretty_printed(path, text, report)
        else:
            yield from lines_of(path, text, report)
    except AnnotationError as error:
        report.refuse(str(path), error)


def _pretty_printed(path: Path, text: str, report: ReadReport) -> Iterator[tuple[str, object]]:
    report.begin(text.count("\n{") + 1)
    place, line = 0, 1
    while True:
        start = place
        while start < len(text) and text[start].isspace():
            start += 1
        line += text.count("\n", place, start)
        if start == len(text):
            return
        where = f"{path}, line {line}"
        value, place = parse_json_at(text, start, where)
        yield where, value
        line += text.count("\n", start, place)
        report.advance()
