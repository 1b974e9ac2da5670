r"""Text from files and servers on its way to a terminal.

Ids, sentences and file names come from anybody. What could steer a terminal (control characters,
marks that turn the direction of writing) is shown as an escape such as `\x1b` instead, and what a
terminal's encoding lacks as something close to it.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from typing import Any, TextIO

from r2t.store.json_lines import escaped

# C0 without tab and line end, delete, C1, marks of direction, line ends of Unicode, and surrogates,
# which stand for bytes of a file name that are not UTF-8.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_STAND_INS = {
    **dict(zip("▁▂▃▄▅▆▇█", "_.:-=+*#", strict=True)),
    "…": "...",
    "→": "->",
    "←": "<-",
    "·": "-",
    "≥": ">=",
    "≤": "<=",
    "±": "+-",
    "²": "2",
}
_HANDLER = "r2t.stand-ins"


def visible(text: str) -> str:
    """Write what could steer a terminal as an escape; other text stays as it is."""
    return _UNSAFE.sub(lambda found: escaped(found[0]), text)


def on_one_line(text: str) -> str:
    """Do the same, and write line ends as escapes, too."""
    return visible(text).replace("\n", r"\n")


def encodable(text: str, encoding: str) -> str:
    """Replace what an encoding lacks."""
    return text.encode(encoding, _HANDLER).decode(encoding)


def let_all_be_written(stream: TextIO) -> None:
    """Make a stream replace what its encoding lacks, where it would raise an error."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
        stream.reconfigure(errors=_HANDLER)


def json_text(value: Any, *, ascii_only: bool = False) -> str:
    """Write JSON for people and programs, in which no character can steer a terminal."""
    text = json.dumps(value, indent=2, ensure_ascii=ascii_only)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    shown = (
        _STAND_INS.get(each) or each.encode("ascii", "backslashreplace").decode()
        for each in lacking
    )
    return "".join(shown), error.end


codecs.register_error(_HANDLER, _stand_in)
