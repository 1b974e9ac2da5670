"""A run's records as others may see them: of paths and URLs, only the last names."""

from __future__ import annotations

import json
from pathlib import Path

from r2t.store.errors import ConfigError
from r2t.store.files import explain, read_plain
from r2t.store.sources import without_places

_MOST_BYTES = 2**28


def shared_record(path: Path) -> bytes:
    """Return a JSON file with only last names of places; raise `ConfigError` if it is no record."""
    try:
        content = json.loads(read_plain(path, _MOST_BYTES))
        if not isinstance(content, dict):
            raise ValueError("it holds no record")
    except (OSError, ValueError, RecursionError) as error:
        why = explain(error) if isinstance(error, OSError) else error
        raise ConfigError(f"cannot read {path}: {why}; give the folder of a run") from error
    return (json.dumps(without_places(content), indent=2) + "\n").encode()
