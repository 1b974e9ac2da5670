"""Reading bytes of many files of a store at once: what opening a store mostly waits for.

Not through zarr's event loop, in which a small read costs more than the disk does, and which has
as many threads as the machine has cores, however long a server takes to answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, runtime_checkable

from zarr.abc.store import Store
from zarr.storage import LocalStore

from r2t.store.format.nodes import FolderStore

Span = tuple[str, int, int]
"""The key of a file, and from which byte to which."""


@runtime_checkable
class RangedStore(Protocol):
    """A zarr store that is also read by the thread that asks."""

    @property
    def at_once(self) -> int:
        """How many reads it serves side by side."""
        ...

    @property
    def reads_a_thread(self) -> int:
        """How many reads are worth a thread."""
        ...

    def read_range(self, key: str, start: int, stop: int) -> bytes | None:
        """Return the bytes from start to stop, fewer where the file ends; None if there is none."""
        ...


def read_spans(store: Store, spans: Sequence[Span]) -> Iterator[bytes | None]:
    """Yield what `read_range` returns for each span, in their order; few are ahead of the yield."""
    ranged = as_ranged(store)
    num_threads = min(ranged.at_once, len(spans) // ranged.reads_a_thread)
    if num_threads < 2:
        yield from (ranged.read_range(*span) for span in spans)
        return
    pending: deque[Future[bytes | None]] = deque()
    with ThreadPoolExecutor(num_threads, thread_name_prefix="r2t-ranges") as pool:
        try:
            for span in spans:
                pending.append(pool.submit(ranged.read_range, *span))
                if len(pending) > 2 * num_threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def as_ranged(store: Store) -> RangedStore:
    """Return a store as one that is read in ranges, which all are that r2t opens."""
    if isinstance(store, LocalStore) and not isinstance(store, FolderStore):
        store = FolderStore(store.root.resolve(), read_only=True)
    if not isinstance(store, RangedStore):
        raise TypeError(f"{store!r} is not read in ranges")
    return store
