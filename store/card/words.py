"""A README of which one part is ours: it is written anew, and what people wrote stays.

Between two marks lies what r2t wrote, below a front matter with its keys. The last mark holds
digests, by which an edit of what is ours is told from our own writing: nobody's words are replaced.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r2t.store.card.markdown import front_matter
from r2t.store.errors import StoreError

README = "README.md"

_HEAD = re.compile(r"\s*---[ \t]*\n((?:.*\n)*?)---[ \t]*(?:\n|$)")
_BEGIN = re.compile(
    r"<!-- (?P<mark>made by r2t [a-z ]+); what you write above this line or below its end is kept "
    r"-->\n"
)
_END = re.compile(
    r"\n<!-- end of what was (?P<mark>made by r2t [a-z ]+) "
    r"(?P<seals>[0-9a-f]{12} [0-9a-f]{12} [0-9a-f]{12}) -->"
)
_KEY = re.compile(r"""["']?([A-Za-z_][\w-]*)["']?[ \t]*:(.*)""")
_EMPTY_LINES = re.compile(r"\A(?:[ \t]*\n)+")
_LICENCE = "license"
_NO_SEAL = "0" * 12
_NO_WORDS = ("", "", "")


@dataclass(frozen=True)
class _Readme:
    """The parts of a document; `head` are lines, and `body` is None where nothing is marked."""

    head: str
    above: str
    mark: str
    body: str | None
    below: str
    head_seal: str = ""
    body_seal: str = ""
    is_whole: bool = False

    @property
    def has_own_head(self) -> bool:
        """Whether the front matter is as r2t wrote it."""
        return self.head == "" or _seal(self.head) == self.head_seal

    @property
    def words(self) -> tuple[str, str, str]:
        """What people wrote."""
        return "" if self.has_own_head else self.head, self.above.strip(), self.below.strip()


def marked_readme(head: Mapping[str, Any], body: str, mark: str) -> str:
    """Return a document that is all ours; a mark is `made by r2t` and more words."""
    lines = front_matter(head).removeprefix("---\n").removesuffix("---")
    return _composed(_Readme(lines, "", mark, body, "", _seal(lines)), is_whole=True)


def with_kept_words(new: str, there: bytes | None, name: str) -> str:
    """Return a document that is all ours with the words of people in the one that is there.

    Raises `StoreError` if these are where ours belong, or state another licence.
    """
    return _merged(_parsed(new), _parsed(_decoded(there, name)), name, is_whole=True)


def readme_to_send(here: bytes, there: bytes | None, name: str, other: str) -> bytes:
    """Return the document to send in place of the one that lies there, which somebody may own.

    What r2t sent, and nobody has changed since, is replaced, but by no document without words: that
    may be of a copy, which has none. Else the words there stay. Raises `StoreError` as
    `with_kept_words`, and if people wrote unlike words in both.
    """
    mine, found = _parsed(_decoded(here, other)), _parsed(_decoded(there, name))
    if not there or here == there or (found.is_whole and mine.words != _NO_WORDS):
        return here
    if mine.body is None or mine.words not in (_NO_WORDS, found.words):
        raise StoreError(
            f"{name} and {other} differ in what people wrote, and neither is to be lost: make them "
            "alike, or delete one"
        )
    return _merged(mine, found, name, is_whole=found.is_whole).encode()


def _merged(new: _Readme, there: _Readme, name: str, *, is_whole: bool) -> str:
    if there.body is not None and _seal(there.body) != there.body_seal:
        raise StoreError(
            f"{name}: somebody changed what lies between the marks of r2t, which would be "
            "replaced: move those words above or below the marks, or delete the marks to keep all"
        )
    if any(mark.search(words) for mark in (_BEGIN, _END) for words in (there.above, there.below)):
        raise StoreError(
            f"{name}: a mark of r2t lacks its other one, or there is more than one pair: leave the "
            "one pair that is around what r2t wrote, or delete the marks to keep all"
        )
    head = new.head if there.has_own_head else _merged_head(new.head, there.head, name)
    merged = _Readme(head, there.above, new.mark, new.body, there.below, head_seal=_seal(new.head))
    return _composed(merged, is_whole=is_whole)


def _merged_head(new: str, there: str, name: str) -> str:
    """Return the lines of people with ours that they lack."""
    theirs = {found[1]: found[2] for line in there.splitlines() if (found := _KEY.match(line))}
    missing: list[str] = []
    for line in new.splitlines():
        key, _, value = line.partition(": ")
        if key not in theirs:
            missing.append(f"{line}\n")
        elif key == _LICENCE and theirs[key].strip().strip("'\"").lower() != json.loads(value):
            raise StoreError(
                f"{name} states the licence {theirs[key].strip() or 'in several lines'}, and r2t "
                f"was told {json.loads(value)}: make them agree"
            )
    return there + "".join(missing)


def _composed(readme: _Readme, *, is_whole: bool) -> str:
    above, below = (_EMPTY_LINES.sub("", each).rstrip() for each in (readme.above, readme.below))
    above, below = above and f"{above}\n\n", below and f"\n{below}\n"
    body = readme.body or ""
    seals = f"{readme.head_seal} {_seal(body)} {_NO_SEAL}"
    text = (
        f"---\n{readme.head}---\n\n{above}"
        f"<!-- {readme.mark}; what you write above this line or below its end is kept -->\n"
        f"{body}\n<!-- end of what was {readme.mark} {seals} -->\n{below}"
    )
    return text.replace(seals, f"{seals[:-12]}{_seal(text)}") if is_whole else text


def _parsed(text: str) -> _Readme:
    head = _HEAD.match(text)
    if head and head[1].strip() and not any(map(_KEY.match, head[1].splitlines())):
        head = None  # a line across the page
    rest = text[head.end() :] if head else text
    lines = head[1] if head else ""
    begin = _BEGIN.search(rest)
    end = _END.search(rest, begin.end() - 1) if begin else None
    if begin is None or end is None or begin["mark"] != end["mark"]:
        return _Readme(lines, rest, "", None, "")
    seals = end["seals"]
    unsealed = text.replace(seals, f"{seals[:-12]}{_NO_SEAL}")
    return _Readme(
        lines,
        rest[: begin.start()],
        begin["mark"],
        rest[begin.end() : end.start()],
        rest[end.end() :],
        *seals.split()[:2],
        is_whole=_seal(unsealed) == seals[-12:],
    )


def _decoded(content: bytes | None, name: str) -> str:
    try:
        text = (content or b"").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StoreError(f"{name} is not UTF-8, so nothing can be written beside it") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _seal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
