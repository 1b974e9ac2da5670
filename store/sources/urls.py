"""Telling a URL from a path; alone, so that a command's help need not load zarr."""

from __future__ import annotations

import re
from pathlib import Path

_URL = re.compile(r"[a-z][a-z0-9+.-]+://|[a-z0-9]+::", re.IGNORECASE)


def is_url(location: str | Path) -> bool:
    """Whether a location is a URL rather than a path."""
    return _URL.match(str(location)) is not None
