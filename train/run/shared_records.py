"""A run's records as others may see them: of places, which tell about a person, only the names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from r2t.store.errors import ConfigError
from r2t.store.files import explain, read_plain
from r2t.store.sources import is_url, last_name

_PLACES = frozenset({"store", "run", "imported", "merged", "subset_of"})
"""Keys below which every text is a path or a URL; elsewhere some are."""

_PUBLIC = "hf://"
_MOST_BYTES = 2**28


def without_places(path: Path) -> bytes:
    """Return a JSON file with the last name of every local path and URL in it; a hub's stay.

    Raises `ConfigError` if it cannot be read.
    """
    try:
        content = json.loads(read_plain(path, _MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        why = explain(error) if isinstance(error, OSError) else error
        raise ConfigError(f"cannot read {path}: {why}; give the folder of a run") from error
    return (json.dumps(_shown(content, is_place=False), indent=2) + "\n").encode()


def _shown(value: Any, *, is_place: bool) -> Any:
    if isinstance(value, Mapping):
        values = cast("Mapping[str, Any]", value)
        return {
            name: _shown(each, is_place=is_place or name in _PLACES)
            for name, each in values.items()
        }
    if isinstance(value, list):
        return [_shown(each, is_place=is_place) for each in cast("list[Any]", value)]
    if not isinstance(value, str) or not value or value.startswith(_PUBLIC):
        return value
    return last_name(value) if is_place or is_url(value) or value[:1] in ("/", "~") else value
