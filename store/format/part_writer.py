"""Writing a part: once, whole, and never again; and taking one out of a store."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from r2t.store.format.header import StoreHeader
from r2t.store.format.header_proof import MADE_WITH, made_with
from r2t.store.format.manifest import record_parts
from r2t.store.format.part_files import GivenColumns, write_part
from r2t.store.format.parts import PartKind, part_place
from r2t.store.format.publisher import Publisher

QUERIES_PER_PART = 2000
"""Most queries that are written as one part: about 100 MB of tokens."""

_TIME = "%Y%m%dT%H%M%S%f"
_TIME_LENGTH = 21


@dataclass(frozen=True)
class PartWriter:
    """Commits parts to a store and drops them; the manifest follows each time."""

    publisher: Publisher
    header: StoreHeader

    @property
    def version(self) -> int:
        """The format version of the store."""
        return self.header.format_version

    def commit(
        self,
        kind: PartKind,
        columns: GivenColumns,
        replaces: Collection[str] = (),
        *,
        name: str | None = None,
        check: Callable[[], object] | None = None,
    ) -> None:
        """Write a part, which from then on stands in for those it replaces.

        `name` is by default that of the latest part. `check` is called between writing and
        committing, and may raise.
        """
        name = name or new_part_name(replaces)
        folder = self.publisher.work / f"{kind}-{name}"
        facts = {MADE_WITH: made_with(self.header)} if self.version > 1 else {}
        write_part(folder, columns, replaces, version=self.version, facts=facts)
        if check is not None:
            check()
        place = f"{part_place(kind, self.version)}/{name}"
        if not self.publisher.add(folder, place):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), place)
        self.record(growing=not replaces)

    def drop(self, kind: PartKind, names: Iterable[str]) -> None:
        """Take parts out of the store and remove them; one that is not there is passed over."""
        for name in names:
            self.publisher.drop(f"{part_place(kind, self.version)}/{name}")
        self.record(growing=False)

    def record(self, *, growing: bool = True) -> None:
        """Let the manifest name the parts that are there, if the format version has one."""
        if self.version > 1:
            record_parts(self.publisher, growing=growing)


def new_part_name(replaces: Collection[str] = ()) -> str:
    """Return a name nobody else has: the time first, so that parts list in order of writing.

    It sorts after the parts that it replaces, even if another machine's clock was ahead.
    """
    own = uuid.uuid4().hex[:12]
    name = f"{datetime.now(UTC):{_TIME}}-{own}"
    latest = max(replaces, default="")
    return name if name > latest else f"{latest}-{own}"


def following_part_name(latest: str) -> str:
    """Return a name nobody else has that sorts after one part and before those written later."""
    own = uuid.uuid4().hex[:12]
    try:
        time = datetime.strptime(latest[:_TIME_LENGTH], _TIME)
        return f"{time + timedelta(microseconds=1):{_TIME}}-{own}"
    except (ValueError, OverflowError):
        return f"{latest}-{own}"
