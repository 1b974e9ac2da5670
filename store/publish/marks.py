"""What stands in place of a video's metadata while nobody may commit that video, or it is gone.

Whoever removes objects of a video, or puts others in their place, first puts a mark where the
video's digest would be. Commits and marks are put on the condition that what was seen there is
there still, so that of two such acts one is refused: no object of a video that is committed, or is
about to be, goes away or changes.
"""

from __future__ import annotations

import json
import uuid
from typing import Any, Literal, cast

Doing = Literal["replace", "remove", "removed"]

_MARK = "uncommitted"
MARK_BYTES = 200
"""Most bytes of a mark; a video's metadata have more, with two digests in them."""
LEASE_SECONDS = 15 * 60.0
"""How long a mark keeps others away, unless it says that the work is done."""
WORK_SECONDS = 4 * 60.0
"""How long whoever put a mark may begin requests before putting a new one.

Each may take ten minutes more, so that all have ended before the mark counts no more.
"""


def new_mark(doing: Doing) -> bytes:
    """Return a Zarr group that is no video, unlike any other mark."""
    attributes = {_MARK: {"doing": doing, "by": uuid.uuid4().hex}}
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return json.dumps(group).encode()


def is_committed(attributes: dict[str, Any]) -> bool:
    """Whether attributes of a node are those of one that is whole."""
    return "digest" in attributes


def doing_of(attributes: dict[str, Any]) -> str | None:
    """Return what a mark says of the node whose attributes these are, None if it is no mark."""
    mark: Any = attributes.get(_MARK)
    return str(cast("dict[str, Any]", mark).get("doing")) if isinstance(mark, dict) else None


def attributes_in(content: bytes) -> dict[str, Any]:
    """Return the attributes in a node's metadata, empty where there are none that can be read."""
    try:
        found = json.loads(content)
        attributes = found["attributes"]
    except (ValueError, LookupError, TypeError):
        return {}
    return cast("dict[str, Any]", attributes) if isinstance(attributes, dict) else {}
