"""A store that changed under a run: what the run remembers of it, and whether it may go on.

The digest of the content is in the run's config.json; which videos and queries these were is in a
file beside it, so that a change can be named.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from r2t.store.content import StoreContent
from r2t.store.errors import ConfigError, RunWarning
from r2t.store.files import read_plain, write_whole
from r2t.train.run.trained_on import AllowedChange, TrainedOn

CONTENT = "store-content.json"
FOLLOWS_CONTENT = frozenset(
    f"trained_on.{name}"
    for name in (
        *("content", "queries", "num_train_queries", "num_val_queries", "held_out_videos"),
        *("longest_num_frames", "longest_whole_num_frames"),
    )
)
"""What is another where a store has changed, as `RunFolder.claim` names it."""

_MAX_CONTENT_BYTES = 2**29  # millions of ids


def save_content(folder: Path, content: StoreContent) -> None:
    """Remember which videos and queries a store holds."""
    record = {"content": content.digest(), **vars(content.abridged())}
    write_whole(folder / CONTENT, json.dumps(record))


def admit_changes(
    folder: Path,
    earlier: TrainedOn,
    now: TrainedOn,
    content: StoreContent | None,
    *,
    num_epochs: int,
    allow_changed: bool,
) -> TrainedOn:
    """Return what a resumed run is trained on from now on, its changes with it.

    Raises:
        ConfigError: The store has changed, and that is not allowed.
    """
    now = replace(now, allowed_changes=earlier.allowed_changes)
    if earlier.content is None or earlier.content == now.content:
        return now
    changes = _changes(folder, earlier.content, content)
    if not allow_changed:
        raise ConfigError(
            f"cannot resume {folder}: its store has changed since, {now.store} now: {changes}. "
            "Resume it with the store as it was, start a new run, or go on with what is there now "
            "by --allow-changed"
        )
    warnings.warn(
        f"{folder} goes on though its store has changed: {changes}; config.json records it",
        RunWarning,
        stacklevel=3,
    )
    change = AllowedChange(num_epochs, earlier.content, changes)
    return replace(now, allowed_changes=(*(earlier.allowed_changes or ()), change))


def _changes(folder: Path, digest: str, content: StoreContent | None) -> str:
    """Say what changed, as far as the run remembers what there was."""
    earlier = _load_content(folder, digest)
    if content is None or earlier is None:
        return "which videos or queries is not known, since the run does not say what there was"
    return str(content.abridged().changes_since(earlier))


def _load_content(folder: Path, digest: str) -> StoreContent | None:
    """Return what `save_content` wrote of the content with a digest, None if nothing usable."""
    try:
        recorded = json.loads(read_plain(folder / CONTENT, _MAX_CONTENT_BYTES))
        content = StoreContent(_digests(recorded["videos"]), _digests(recorded["queries"]))
        return content if recorded["content"] == digest else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _digests(found: Any) -> dict[str, str]:
    if not isinstance(found, dict):
        raise TypeError
    digests = cast("dict[Any, Any]", found)
    if not all(isinstance(each, str) for each in digests.values()):
        raise TypeError
    return cast("dict[str, str]", digests)
