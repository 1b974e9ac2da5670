"""Reading untrusted text: JSON objects field by field, and complaints that say where.

Annotation and prediction files come from anywhere. Everything here either returns a value of the
stated type or raises AnnotationError naming file, row and field; the work done is bounded by the
size of the file.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from r2t.store.annotations import Split
from r2t.store.errors import AnnotationError
from r2t.store.json_lines import is_utf8
from r2t.store.wording import counted

MAX_SECONDS = 1e6  # eleven days; anything longer is milliseconds or frames taken for seconds
LABELLED_CLIP_SECONDS = 2.0  # of QVHighlights and TVSum
MAX_CLIPS = 43_200  # a day of two-second clips


class _IllegalJsonError(ValueError):
    """JSON that the standard allows, or Python does, but no annotation file means."""


def _no_constant(name: str) -> object:
    raise _IllegalJsonError(f"{name} is not a legal number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise _IllegalJsonError(f"the key {twice!r} occurs twice in one object")
    return fields


_DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_unique_keys)


def parse_json(text: str, where: str) -> object:
    """Parse JSON strictly: no NaN, no infinity, no key twice in one object."""
    with _json_errors(where):
        return _DECODER.decode(text)


def parse_json_at(text: str, start: int, where: str) -> tuple[object, int]:
    """Parse the JSON value that starts at a place, as strictly; return it and where it ends."""
    with _json_errors(where):
        return _DECODER.raw_decode(text, start)


@contextmanager
def _json_errors(where: str) -> Generator[None]:
    try:
        yield
    except _IllegalJsonError as error:
        raise AnnotationError(f"{where}: {error}") from error
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of 4300 digits
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise AnnotationError(f"{where}: not valid JSON ({reason})") from error


def check_text(value: object, where: str, *, empty: bool = False) -> str:
    """Return the text without surrounding blanks; refuse what UTF-8 cannot hold."""
    if not isinstance(value, str):
        raise AnnotationError(f"{where} is {shown(value)}; expected text")
    if not is_utf8(value):
        raise AnnotationError(f"{where} holds half a surrogate pair: {value!r}")
    text = value.strip()
    if not (text or empty):
        raise AnnotationError(f"{where} is empty; expected text")
    return text


def check_sentence(value: object, where: str, *, empty: bool = False) -> str:
    """Return a dataset's own sentence as it stands; refuse what `check_text` refuses.

    CLIP's tokens are the same without the blanks around it, but the words are not ours to change.
    """
    if not (check_text(value, where, empty=True) or empty):
        raise AnnotationError(f"{where} is empty; expected a sentence")
    return cast("str", value)


def check_number(value: object, where: str, low: float, high: float) -> float:
    """Return the number as a float if it is one, finite, and within [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise AnnotationError(f"{where} is {shown(value)}; expected a number")
    if not low <= value <= high:  # false for NaN too; compares integers of any size
        raise AnnotationError(f"{where} = {shown(value)}; must be {low:g} to {high:g}")
    return float(value)


def parse_number(text: str, where: str) -> float:
    """Parse a time in seconds written as text."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise AnnotationError(f"{where} is {shown(text)}; expected seconds such as 12.5")
    return check_number(number, where, 0, MAX_SECONDS)


def parse_split(value: object, where: str) -> Split:
    """Return train, val or test."""
    text = check_text(value, where)
    if text not in get_args(Split):
        raise AnnotationError(f"{where} is {shown(text)}; must be train, val or test")
    return cast("Split", text)


def check_moments(moments: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    """Return moments, float64 [n, 2], of which none ends before it starts."""
    for start, end in moments.tolist():
        check_moment(start, end, where)
    return moments


def check_moment(start: float, end: float, where: str) -> None:
    """Refuse a moment that ends before it starts."""
    if start > end:
        raise AnnotationError(
            f"{where}: the moment [{start:g}, {end:g}] ends before it starts; swap its ends"
        )


def shown(value: object) -> str:
    """Show a value of unknown size in a message."""
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 64:
        return "an integer of more than 64 bits"
    text = "null" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


class Fields:
    """A JSON object, its fields read one by one with their types checked."""

    def __init__(self, value: object, where: str) -> None:
        """Take an object found at `where`, such as "file.jsonl, line 3"."""
        if not isinstance(value, dict):
            raise AnnotationError(f"{where}: {shown(value)} where an object {{…}} was expected")
        self.where = where
        self._fields = cast("dict[str, object]", value)

    def __contains__(self, key: str) -> bool:
        return self._fields.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def at(self, key: str) -> str:
        return f"{self.where}, field {key!r}"

    def value(self, key: str) -> object:
        if key not in self._fields:
            raise AnnotationError(
                f"{self.where}: no field {key!r}; it has {shown(', '.join(self._fields))}"
            )
        return self._fields[key]

    def text(self, key: str, *, empty: bool = False) -> str:
        return check_text(self.value(key), self.at(key), empty=empty)

    def sentence(self, key: str, *, empty: bool = False) -> str:
        """Return a dataset's own sentence as it stands."""
        return check_sentence(self.value(key), self.at(key), empty=empty)

    def identifier(self, key: str) -> str:
        """Return an id as text; files give it as text or as an integer."""
        value = self.value(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(int(check_number(value, self.at(key), -(2**63), 2**63)))
        return self.text(key)

    def number(self, key: str, low: float = 0, high: float = MAX_SECONDS) -> float:
        return check_number(self.value(key), self.at(key), low, high)

    def optional_number(self, key: str) -> float | None:
        return self.number(key) if key in self else None

    def count(self, key: str, high: int = 2**53) -> int:
        """Return a whole number that may be written as text ("842")."""
        value = self.value(key)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            value = int(value)
        if isinstance(value, float) or value is True or value is False:
            raise AnnotationError(f"{self.at(key)} is {shown(value)}; expected a whole number")
        return int(check_number(value, self.at(key), 0, high))

    def items(self, key: str) -> list[object]:
        return check_list(self.value(key), self.at(key))

    def child(self, key: str) -> Fields:
        return Fields(self.value(key), self.at(key))

    def children(self, key: str) -> Iterator[Fields]:
        """Yield the objects of a list."""
        for index, value in enumerate(self.items(key)):
            yield Fields(value, f"{self.where}, {key}[{index}]")

    def numbers(self, key: str, low: float, high: float) -> list[float]:
        where = self.at(key)
        return [check_number(value, where, low, high) for value in self.items(key)]

    def matrix(
        self, key: str, width: int | None = None, low: float = 0, high: float = MAX_SECONDS
    ) -> NDArray[np.float64]:
        """Return a list of equally long lists of numbers: float64 [rows, width]."""
        rows: list[list[float]] = []
        for index, row in enumerate(self.items(key)):
            where = f"{self.at(key)}[{index}]"
            rows.append([check_number(v, where, low, high) for v in check_list(row, where)])
        width = (len(rows[0]) if rows else 0) if width is None else width
        for index, row in enumerate(rows):
            if len(row) != width:
                raise AnnotationError(
                    f"{self.at(key)}[{index}] has {counted(len(row), 'number')}; expected {width}"
                )
        return np.array(rows, dtype=np.float64).reshape(len(rows), width)


def check_list(value: object, where: str) -> list[object]:
    """Return the value if it is a list."""
    if not isinstance(value, list):
        raise AnnotationError(f"{where} is {shown(value)}; expected a list")
    return cast("list[object]", value)
