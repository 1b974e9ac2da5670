"""Which videos and queries a store holds, by their digests alone, and how two of these differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from r2t.store.wording import FEW_NAMES, counted, named

_ABRIDGED = 12  # hex digits: enough to tell what has changed in one store


@dataclass(frozen=True)
class Changes:
    """Ids that were added, whose content changed, and that were removed; each sorted."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @classmethod
    def between(cls, before: Mapping[str, str], after: Mapping[str, str]) -> Changes:
        """Compare digests by id."""
        return cls(
            added=tuple(sorted(after.keys() - before.keys())),
            changed=tuple(
                sorted(key for key in after if before.get(key, after[key]) != after[key])
            ),
            removed=tuple(sorted(before.keys() - after.keys())),
        )

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    def lines(self, noun: str) -> list[str]:
        """Say what changed, with the first ids of each kind."""
        return [
            f"{counted(len(ids), noun)} {what} ({named(ids, FEW_NAMES)})"
            for what, ids in vars(self).items()
            if ids
        ]


@dataclass(frozen=True)
class ContentChanges:
    """What was done to the videos and the queries of a store."""

    videos: Changes
    queries: Changes

    def __bool__(self) -> bool:
        return bool(self.videos or self.queries)

    def __str__(self) -> str:
        """Say it in one line."""
        lines = [*self.videos.lines("video"), *self.queries.lines("query")]
        return ", ".join(lines) or "nothing"


@dataclass(frozen=True)
class StoreContent:
    """The digest of each video and each query of a store, by id."""

    videos: Mapping[str, str]
    queries: Mapping[str, str]

    def digest(self) -> str:
        """Return one digest over all of them, whatever their order."""
        content = json.dumps([sorted(self.videos.items()), sorted(self.queries.items())])
        return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"

    def abridged(self) -> StoreContent:
        """Return the same with digests that are short, to be kept and compared later."""
        return StoreContent(_abridged(self.videos), _abridged(self.queries))

    def changes_since(self, earlier: StoreContent) -> ContentChanges:
        """Say what was added, changed and removed since then."""
        return ContentChanges(
            Changes.between(earlier.videos, self.videos),
            Changes.between(earlier.queries, self.queries),
        )


def _abridged(digests: Mapping[str, str]) -> dict[str, str]:
    return {key: digest.removeprefix("sha256:")[:_ABRIDGED] for key, digest in digests.items()}
