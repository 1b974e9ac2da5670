"""Markdown in which foreign texts are shown as they are and cannot act."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

_ESCAPES = str.maketrans({**{c: f"\\{c}" for c in "\\`*_[]|#"}, "<": "&lt;", ">": "&gt;"})


def markdown_text(text: str) -> str:
    """Return a text on one line, none of which is Markdown."""
    return " ".join(text.split()).translate(_ESCAPES)


def markdown_table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    """Return a table of texts, and of other values as JSON."""
    cells = [head, ("---",) * len(head)]
    cells += [tuple(markdown_text(_shown(value)) for value in row) for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def front_matter(values: Mapping[str, Any]) -> str:
    """Return the head of a document that hubs read."""
    # JSON is YAML, and nothing in a title can break out of it.
    lines = (f"{name}: {json.dumps(value)}" for name, value in values.items())
    return "\n".join(["---", *lines, "---"])


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
