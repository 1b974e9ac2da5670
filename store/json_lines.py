"""JSON as text that any reader can take line by line, whatever its strings hold.

Characters that some programs take for the end of a line, and halves of surrogate pairs, which
stand for the bytes of a file name that is not UTF-8, are written as escapes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

_SURROGATES = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # json escapes what is below a blank


def to_json(value: Any, *, indent: int | None = None, default: Any = None) -> str:
    """Write a value as JSON: one line without `indent`, and always UTF-8."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=default)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def to_json_lines(rows: Iterable[Any]) -> bytes:
    """Write one JSON value a line."""
    return "".join(f"{to_json(row)}\n" for row in rows).encode()


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line that is not blank with its number from 1; only a newline ends a line."""
    start, number = 0, 1
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        if line := text[start:end].strip():
            yield number, line
        start, number = end + 1, number + 1


def printable(text: object) -> str:
    """Return a name with everything escaped that a terminal or a list of lines would not take."""
    return "".join(each if each.isprintable() else escaped(each) for each in str(text))


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can hold a text: not if it was made of a file name's other bytes."""
    return text.isascii() or not _SURROGATES.search(text)


def as_utf8(name: str) -> str:
    """Return a name as it is, or with its bytes escaped if it is not UTF-8."""
    return name if is_utf8(name) else printable(name)


def escaped(character: str) -> str:
    r"""Return a character as an escape, such as `\x1b` or `\u202e`; `\xe9` also for that byte."""
    if "\udc80" <= character <= "\udcff":  # a byte of a file name
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode()


def id_line(identifier: str) -> str:
    """Write an id for a list of one a line; as a JSON string where it could not stand as it is."""
    plain = identifier.strip() == identifier and identifier.isprintable()
    return identifier if plain and not identifier.startswith('"') else to_json(identifier)


def parse_id_line(line: str) -> str:
    """Read what `id_line` wrote, or an id written by hand."""
    if not line.startswith('"'):
        return line
    try:
        value = json.loads(line)
    except ValueError:
        return line
    return value if isinstance(value, str) else line
