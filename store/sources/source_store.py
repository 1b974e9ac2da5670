"""A `Source` as zarr sees it: a read-only zarr store, for metadata and small arrays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from functools import cached_property

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype

from r2t.store.format import ON_DISK
from r2t.store.sources.cache import ByteCache
from r2t.store.sources.sources import Source, keys_below

_ON_SERVERS = (64, 1)


class SourceStore(Store):
    """Zarr's view of a source; requests run in threads."""

    def __init__(self, source: Source, cache: ByteCache | None = None) -> None:
        super().__init__(read_only=True)
        self.source = source
        self.cache = cache

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SourceStore) and other.source is self.source

    def __hash__(self) -> int:
        return hash(id(self.source))

    @property
    def supports_writes(self) -> bool:
        """Sources are read."""
        return False

    @property
    def supports_deletes(self) -> bool:
        """Sources are read."""
        return False

    @property
    def supports_listing(self) -> bool:
        """Folders can be listed."""
        return True

    def __str__(self) -> str:
        return self.source.location

    @property
    def at_once(self) -> int:
        """How many reads are made side by side: many where each waits for a server."""
        return self._threads[0]

    @property
    def reads_a_thread(self) -> int:
        """How many reads are worth a thread."""
        return self._threads[1]

    @cached_property
    def _threads(self) -> tuple[int, int]:
        return ON_DISK if self.source.local_file("zarr.json") is not None else _ON_SERVERS

    def read_range(self, key: str, start: int, stop: int) -> bytes | None:
        """Return some bytes of a file, fewer where it ends; None if there is none."""
        return self.source.read(key, start, stop)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes of a file, None if there is none."""
        start, stop = 0, None
        if isinstance(byte_range, RangeByteRequest):
            start, stop = byte_range.start, byte_range.end
        elif byte_range is not None or not key.endswith("zarr.json"):
            size = await asyncio.to_thread(self.source.size, key)
            if size is None:
                return None
            if isinstance(byte_range, SuffixByteRequest):
                start = max(0, size - byte_range.suffix)
            elif isinstance(byte_range, OffsetByteRequest):
                start = byte_range.offset
            stop = size
        content = await asyncio.to_thread(self.source.read, key, start, stop)
        return None if content is None else prototype.buffer.from_bytes(content)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return several ranges, read at once."""
        pending = [self.get(key, prototype, byte_range) for key, byte_range in key_ranges]
        return list(await asyncio.gather(*pending))

    async def exists(self, key: str) -> bool:
        """Whether there is such a file."""
        return await asyncio.to_thread(self.source.size, key) is not None

    async def getsize(self, key: str) -> int:
        """Return the size of a file."""
        size = await asyncio.to_thread(self.source.size, key)
        if size is None:
            raise FileNotFoundError(key)
        return size

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse: sources are read."""
        raise ValueError(f"{self} is open for reading")

    async def delete(self, key: str) -> None:
        """Refuse: sources are read."""
        raise ValueError(f"{self} is open for reading")

    async def list(self) -> AsyncIterator[str]:
        """Yield all keys."""
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys below a folder."""
        for key in await asyncio.to_thread(keys_below, self.source, prefix.strip("/")):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names in a folder."""
        for name in await asyncio.to_thread(self.source.names, prefix.strip("/")):
            yield name.rstrip("/")
